/* Files on their way: three at a time, in pieces, taken up where they stopped. Nothing here touches the page. */
"use strict";

const ENDPOINT = "/api/v1/uploads";
const AT_ONCE = 3;
const CHECKED_AT_ONCE = 12; // a server that falls behind is not flooded
const PIECE_BYTES = 32 * 2 ** 20; // a proxy takes no endless body, and a broken line costs no more than this
const SMALL_BYTES = 2 ** 20;
const ALONE = [".nii", ".nii.gz", ".nrrd", ".mha", ".mat", ".tsv", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".zip"];
const RETRIES_MS = [0, 1000, 3000, 5000, 10000, 20000, 30000];

/* Where an upload of a file lies, by what the file is; in this browser. One entry a file, found without a search. */
const memory = {
  key: (fingerprint) => `vx-upload|${fingerprint}`,
  async findAllUploads() { return []; },
  async findUploadsByFingerprint(fingerprint) {
    const known = localStorage.getItem(this.key(fingerprint));
    return known ? [{ ...JSON.parse(known), urlStorageKey: this.key(fingerprint) }] : [];
  },
  async addUpload(fingerprint, upload) {
    const kept = this.keep(this.key(fingerprint), JSON.stringify(upload));
    return kept ? this.key(fingerprint) : undefined; // else this file can't be taken up after the tab was closed
  },
  async removeUpload(key) { localStorage.removeItem(key); },

  /* The same key as long as a file is not done: a beginning whose answer was lost is not a second upload. */
  beginning(fingerprint) {
    const key = `vx-key|${fingerprint}`;
    const known = localStorage.getItem(key);
    if (known) return known;
    const fresh = Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(16)).join("-");
    this.keep(key, fresh); // else it holds as long as the tab
    return fresh;
  },
  keep(key, text) {
    try {
      localStorage.setItem(key, text);
      return true;
    } catch (full) {
      const done = Object.keys(localStorage).filter((each) => each.startsWith("vx-done|"));
      done.forEach((each) => localStorage.removeItem(each)); // what is on its way matters more
      return done.length > 0 && this.keep(key, text);
    }
  },

  /* Scans that a file became before, as far as they are still there: a folder that is chosen again is not refused. */
  async findScans(fingerprint) {
    const key = `vx-done|${fingerprint}`;
    const ids = JSON.parse(localStorage.getItem(key) || "[]");
    try {
      return await Promise.all(ids.map((id) => vx.call(`/scans/${id}`)));
    } catch (gone) {
      localStorage.removeItem(key);
      return [];
    }
  },
  remember(fingerprint, scans) {
    if (scans.length) this.keep(`vx-done|${fingerprint}`, JSON.stringify(scans.map((scan) => scan.id)));
  },
  forget(fingerprint) {
    localStorage.removeItem(this.key(fingerprint));
    localStorage.removeItem(`vx-key|${fingerprint}`);
  },
};

/* One file with its state: ready, sending, paused, checking, whole (a member of a batch), done, before (stored earlier),
   refused, stopped, removed. */
class Item {
  constructor(file, path, place, asName, queue) {
    Object.assign(this, { file, path, place, name: asName || file.name, queue });
    this.state = "ready";
    this.sent = 0;
    this.batch = null;
    this.scans = [];
    this.problems = [];
    this.fingerprint = [path, this.name, file.size, file.lastModified, ...Object.values(place)].join("|");
  }

  get standsAlone() {
    return ALONE.some((suffix) => this.name.toLowerCase().endsWith(suffix));
  }

  set(state) {
    this.state = state;
    this.queue.changed(this);
  }

  async start() {
    this.set("sending");
    const before = this.batch ? [] : await memory.findScans(this.fingerprint);
    if (before.length) {
      this.sent = this.file.size;
      this.scans = before;
      this.set("before");
      this.queue.next();
      return;
    }
    const metadata = { filename: this.name, ...this.place, ...(this.batch ? { batch: this.batch.id } : {}) };
    this.upload = new tus.Upload(this.file, {
      endpoint: ENDPOINT,
      metadata,
      headers: { "Idempotency-Key": memory.beginning(this.fingerprint) },
      chunkSize: PIECE_BYTES,
      uploadDataDuringCreation: this.file.size <= SMALL_BYTES, // one request; larger ones could not be taken up
      retryDelays: RETRIES_MS,
      urlStorage: memory,
      removeFingerprintOnSuccess: !this.batch,
      fingerprint: async () => this.fingerprint,
      onShouldRetry: (error) => mayRetry(error),
      onProgress: (sent) => {
        this.sent = sent;
        this.queue.changed(this);
      },
      onSuccess: () => this.arrived(),
      onError: (error) => this.failed(error),
    });
    const [earlier] = await this.upload.findPreviousUploads();
    if (earlier) this.upload.resumeFromPreviousUpload(earlier);
    if (this.state === "sending") this.upload.start();
  }

  async pause() {
    if (!["ready", "sending"].includes(this.state)) return;
    this.set("paused");
    if (this.upload) await this.upload.abort();
    this.queue.next();
  }

  resume() {
    if (!["paused", "stopped"].includes(this.state)) return;
    this.problems = [];
    this.set("ready");
    this.queue.next();
  }

  async remove() {
    const url = this.upload && this.upload.url;
    const wasOpen = !["done", "before", "refused"].includes(this.state);
    this.set("removed");
    if (this.upload && wasOpen) await this.upload.abort(Boolean(url)).catch(() => {});
    memory.forget(this.fingerprint);
    this.queue.next();
  }

  async arrived() {
    this.sent = this.file.size;
    if (this.batch) {
      this.set("whole");
    } else {
      this.set("checking");
      this.queue.next(); // the next one comes while this one is checked
      await this.follow();
    }
    this.queue.next();
  }

  async follow() {
    const id = this.upload.url.split("/").pop();
    for (let wait = 150; ; wait = Math.min(2000, wait * 1.5)) {
      try {
        const found = await vx.call(`/uploads/${id}`);
        if (found.status !== "checking") {
          this.scans = found.scans;
          this.problems = found.problems;
          memory.forget(this.fingerprint);
          memory.remember(this.fingerprint, found.scans);
          this.set(found.status);
          return;
        }
      } catch (error) {
        if (error instanceof vx.Problem && error.problem.status < 500) {
          this.problems = [{ name: this.name, problem: error.problem }];
          this.set("stopped");
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  failed(error) {
    if (this.state !== "sending") return;
    this.problems = [{ name: this.name, problem: readProblem(error) }];
    const status = error.originalResponse ? error.originalResponse.getStatus() : 0;
    const refused = status >= 400 && status < 500 && status !== 423;
    if (refused) memory.forget(this.fingerprint);
    this.set(refused ? "refused" : "stopped");
    this.queue.next();
  }
}

/* Loose files of one drop, which become one scan a series once all are whole. */
class Batch {
  constructor(items, queue) {
    Object.assign(this, { items, queue, state: "open", scans: [], problems: [] });
    for (const item of items) item.batch = this;
  }

  /* Take the batch of an interrupted drop of the same files, else a new one. */
  async begin() {
    for (const item of this.items) {
      const [earlier] = await memory.findUploadsByFingerprint(item.fingerprint);
      if (earlier && earlier.metadata.batch) this.id = earlier.metadata.batch;
      if (this.id) return;
    }
    this.id = (await vx.call("/uploads/batches", { method: "POST" })).id;
  }

  get left() {
    return this.items.filter((item) => item.state !== "removed");
  }

  /* Close it once nothing is missing. */
  async settle() {
    const left = this.left;
    const whole = left.filter((item) => item.state === "whole");
    if (this.state !== "open" || !whole.length || left.some((item) => !["whole", "refused"].includes(item.state))) return;
    this.state = "checking";
    this.queue.changed(this);
    try {
      const found = await vx.call(`/uploads/batches/${this.id}/close`, { method: "POST" });
      this.scans = found.scans;
      this.problems = found.problems;
      this.state = found.scans.length ? "done" : "refused";
      for (const item of whole) memory.forget(item.fingerprint);
    } catch (error) {
      this.problems = [{ name: "The files together", problem: readProblem(error) }];
      this.state = "stopped";
    }
    this.queue.changed(this);
  }

  retry() {
    if (this.state === "stopped") this.state = "open";
    for (const item of this.items) item.resume();
    this.settle();
  }
}

class Queue {
  constructor(changed) {
    this.items = [];
    this.batches = [];
    this.changed = changed;
  }

  /* Take files in; loose ones, which do not stand alone, go together. */
  async add(items) {
    const loose = items.filter((item) => !item.standsAlone);
    if (loose.length) {
      const batch = new Batch(loose, this);
      await batch.begin();
      this.batches.push(batch);
    }
    this.items.push(...items);
    this.next();
  }

  next() {
    const count = (state) => this.items.filter((item) => item.state === state).length;
    let room = Math.min(AT_ONCE - count("sending"), CHECKED_AT_ONCE - count("checking"));
    for (const item of this.items) {
      if (room <= 0) break;
      if (item.state === "ready") {
        item.start();
        room -= 1;
      }
    }
    for (const batch of this.batches) batch.settle();
  }
}

function mayRetry(error) {
  const status = error.originalResponse ? error.originalResponse.getStatus() : 0;
  const creates = error.originalRequest && error.originalRequest.getMethod() === "POST";
  return status === 0 || status >= 500 || (!creates && (status === 409 || status === 423));
}

function readProblem(error) {
  if (error instanceof vx.Problem) return error.problem;
  try {
    const said = JSON.parse(error.originalResponse.getBody());
    if (said.remedy) return said;
  } catch (silent) {
    // no answer, or none of ours
  }
  return {
    found: "no answer from the server",
    expected: "one",
    remedy: "What came stays there. Check the connection, then go on.",
  };
}
