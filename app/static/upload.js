/* The page of large uploads: what is chosen or dropped, where it goes, and how far it is. */
"use strict";

const at = (id) => document.getElementById(id);
const rows = new Map(); // item or batch -> row
const SHOWN = 500; // rows of the preview
let chosen = []; // files that wait for the preview to be agreed to
let speed = 0;
let measured = { time: 0, sent: 0 };

const queue = new Queue(changed);

/* The data sets that there are; asked for again when the list is looked at, since others may add some. */
async function fillDatasets() {
  const found = await vx.call("/datasets?limit=500");
  const chosenName = at("dataset").value || vx.parameters.get("dataset");
  const names = found.items.map((each) => each.name);
  if (names.join() !== [...at("dataset").options].map((each) => each.value).join()) {
    at("dataset").replaceChildren(...names.map((name) => vx.make("option", { value: name }, name)));
    if (names.includes(chosenName)) at("dataset").value = chosenName;
  }
  at("first").hidden = Boolean(found.items.length);
  if (!found.items.length) at("summary").textContent = "There is no data set yet.";
  at("choose-files").disabled = at("choose-folder").disabled = !found.items.length;
  await showEarlier();
}

/* What is wrong with a label stands beside its field. */
function checkLabels() {
  for (const name of ["subject", "session"]) {
    const bad = !at(name).checkValidity();
    at(`${name}-problem`).textContent = bad ? "Letters, digits, dots, dashes and underscores, starting with a letter or digit." : "";
    at(name).setAttribute("aria-invalid", String(bad));
  }
}

function findPlace() {
  checkLabels();
  if (!at("place").checkValidity()) {
    at("place").querySelector("input:invalid, select:invalid")?.focus();
    return null;
  }
  if (!at("volume").checkValidity()) {
    at("reading").open = true;
    at("volume").focus();
    return null;
  }
  return { dataset: at("dataset").value, subject: at("subject").value, session: at("session").value, ...findReading() };
}

/* How files are read that can be read in several ways; nothing where that is left open. */
function findReading() {
  const reading = { prefer: at("prefer").value, volume: at("volume").value };
  return Object.fromEntries(Object.entries(reading).filter(([, value]) => value));
}

/* Take files of the form {file, path}; with a pattern they are shown first. */
async function take(files) {
  const kept = files.filter(({ path }) => !isLitter(path));
  const left = files.length - kept.length;
  if (!kept.length) say(files.length ? "Only hidden files and leftovers of other programs: nothing to send." : "An empty folder: nothing to send.");
  if (!kept.length) return;
  chosen = kept.sort((one, other) => one.path.localeCompare(other.path, "en", { numeric: true }));
  const place = findPlace();
  if (!place) {
    say(`${kept.length === 1 ? "1 file waits" : `${kept.length} files wait`}: correct what is marked red to go on.`);
    return;
  }
  await goOn(place);
  if (left) say(`${left} hidden files and leftovers of other programs were left out.`);
}

/* Send what was chosen, or show first where it will go. */
async function goOn(place) {
  say("");
  if (at("pattern").value.trim()) {
    await preview(place);
  } else {
    const items = chosen.map(({ file, path }) => new Item(file, path, place, "", queue));
    chosen = [];
    await send(items);
  }
}

/* A word beside the zone on what was dropped or chosen. */
function say(text) {
  at("zone-said").textContent = text;
}

async function preview(place) {
  at("pattern-problem").textContent = "";
  const asked = chosen;
  let assigned;
  try {
    assigned = await vx.call("/uploads/assign", {
      method: "POST",
      json: {
        names: chosen.map(({ path }) => path),
        pattern: at("pattern").value.trim(),
        rename: at("rename").value.trim(),
        subject: place.subject,
        session: place.session,
      },
    });
  } catch (error) {
    at("pattern-problem").textContent = sentence(readProblem(error));
    at("naming").open = true;
    at("preview").hidden = true;
    say(`${chosen.length === 1 ? "1 file waits" : `${chosen.length} files wait`}: correct the pattern to go on.`);
    return;
  }
  if (asked !== chosen) return; // sent, discarded or chosen anew meanwhile
  chosen.forEach((each, number) => { each.row = assigned.rows[number]; });
  const left = assigned.rows.length - assigned.assigned;
  at("preview-summary").textContent = `${assigned.assigned} of ${assigned.rows.length} files, ${assigned.subjects} subjects`
    + (left ? `; ${left} do not fit and stay here` : "");
  at("preview-rows").replaceChildren(...assigned.rows.slice(0, SHOWN).map((row) => vx.make(
    "tr", row.problem ? { class: "vx-bad" } : {},
    vx.make("td", {}, row.name),
    ...(row.problem
      ? [vx.make("td", { colspan: 3 }, row.problem)]
      : [row.subject, row.session, row.as_name].map((text) => vx.make("td", {}, text))),
  )));
  at("send").textContent = `Send ${assigned.assigned} ${assigned.assigned === 1 ? "file" : "files"}`;
  at("send").disabled = !assigned.assigned;
  at("preview").hidden = false;
}

async function agree() {
  const dataset = at("dataset").value;
  const items = chosen.filter(({ row }) => !row.problem).map(({ file, path, row }) => (
    new Item(file, path, { dataset, subject: row.subject, session: row.session, ...findReading() }, row.as_name, queue)
  ));
  discard();
  await send(items);
}

function discard() {
  chosen = [];
  at("preview").hidden = true;
}

async function send(items) {
  for (const item of items) if (item.standsAlone) addRow(item, item.path);
  try {
    await queue.add(items);
  } catch (error) {
    at("summary").textContent = sentence(readProblem(error));
    return;
  }
  for (const batch of queue.batches) if (!rows.has(batch)) addRow(batch, sayCount(batch.items.length, "loose file"));
  showEarlier();
}

function addRow(what, title) {
  const members = what instanceof Batch ? what.items : [what];
  const row = new Row(title, {
    pause: () => members.forEach((item) => item.pause()),
    resume: () => (what instanceof Batch ? what.retry() : what.resume()),
    remove: () => drop(what, members),
  });
  rows.set(what, row);
  at("list").append(row.element);
  changed(what);
}

async function drop(what, members) {
  const row = rows.get(what);
  const beside = row.element.nextElementSibling || row.element.previousElementSibling;
  rows.delete(what);
  row.element.remove();
  (beside ? beside.querySelector("button:enabled") : at("choose-files"))?.focus();
  for (const item of members) await item.remove();
  queue.items = queue.items.filter((item) => !members.includes(item));
  queue.batches = queue.batches.filter((batch) => batch !== what);
  drawTotal();
}

function changed(what) {
  const subject = what.batch || what;
  const row = rows.get(subject);
  if (row && subject instanceof Batch) drawBatch(row, subject);
  else if (row) row.draw(what.state, sayState(what), what.file.size ? what.sent / what.file.size : 1, outcomeOf(what));
  drawTotal();
}

/* The same object as long as nothing changed, so that a picture is not loaded again with every percent. */
function outcomeOf(what) {
  const key = `${what.scans.length}|${what.problems.map((part) => part.name + part.problem.found).join("|")}`;
  if (!what.outcome || what.outcome.key !== key) what.outcome = { key, scans: what.scans, problems: what.problems };
  return what.outcome;
}

function drawBatch(row, batch) {
  const left = batch.left;
  const size = left.reduce((sum, item) => sum + item.file.size, 0);
  const sent = left.reduce((sum, item) => sum + item.sent, 0);
  const come = left.filter((item) => ["whole", "done"].includes(item.state)).length;
  const refused = left.filter((item) => item.state === "refused");
  const states = new Set(left.map((item) => item.state));
  const state = batch.state !== "open" ? batch.state
    : ["sending", "ready", "stopped", "paused"].find((each) => states.has(each)) || (come ? "checking" : "refused");
  const said = batch.state === "open" && state !== "refused" ? `${STATES[state]}: ${come} of ${left.length}` : STATES[state];
  const parts = { scans: batch.scans, problems: [...batch.problems, ...refused.flatMap((item) => item.problems)] };
  batch.shown = Object.assign(batch.shown || {}, parts);
  row.draw(state, said, size ? sent / size : 1, outcomeOf(batch.shown));
}

function drawTotal() {
  const items = queue.items.filter((item) => item.state !== "removed");
  const count = (...states) => items.filter((item) => states.includes(item.state)).length;
  const size = items.reduce((sum, item) => sum + item.file.size, 0);
  const sent = items.reduce((sum, item) => sum + item.sent, 0);
  const now = performance.now();
  if (now - measured.time > 1000) {
    const pace = (sent - measured.sent) / ((now - measured.time) / 1000);
    speed = measured.time && pace > 0 ? (speed ? 0.7 * speed + 0.3 * pace : pace) : 0;
    measured = { time: now, sent };
  }
  at("total").value = size ? sent / size : 0;
  at("pause-all").disabled = !count("ready", "sending");
  at("resume-all").disabled = !count("paused", "stopped");
  at("clear").disabled = ![...rows.keys()].some((what) => ["done", "before", "refused"].includes(what.state));
  if (!items.length) return;
  const closed = queue.batches.flatMap((batch) => (batch.state === "done" ? batch.items : []));
  const stored = count("done", "before") + closed.filter((item) => item.state === "whole").length;
  const parts = [`${stored} of ${items.length} stored`, `${saySize(sent)} of ${saySize(size)}`];
  if (count("refused")) parts.splice(1, 0, `${count("refused")} refused`);
  if (count("sending") && speed > 0) parts.push(`${saySize(speed)}/s, about ${saySeconds((size - sent) / speed)} left`);
  at("summary").textContent = parts.join(", ");
}

/* What is open on the server and not in this list. */
async function showEarlier() {
  const dataset = at("dataset").value;
  if (!dataset) return;
  const found = await vx.call(`/uploads?limit=100&dataset=${encodeURIComponent(dataset)}`).catch(() => ({ items: [] }));
  const names = new Set(queue.items.filter((item) => item.state !== "removed").map((item) => item.name));
  const open = found.items.filter((upload) => ["open", "waiting"].includes(upload.status) && !names.has(upload.name));
  at("earlier").hidden = !open.length;
  at("earlier-list").replaceChildren(...open.map((upload) => {
    const share = upload.size ? Math.floor((100 * upload.offset) / upload.size) : 0;
    const text = `${share} % of ${saySize(upload.size)}, subject ${upload.subject}, session ${upload.session}`;
    const forget = vx.make("button", {
      type: "button",
      "aria-label": `Remove ${upload.name}`,
      onclick: async () => {
        await vx.call(`/uploads/${upload.id}`, { method: "DELETE", headers: { "Tus-Resumable": "1.0.0" } }).catch(() => {});
        showEarlier();
      },
    }, "Remove");
    return vx.make("li", {}, vx.make("div", { class: "head" }, vx.make("strong", {}, upload.name), text, forget));
  }));
}

function listen() {
  for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
    at(button).addEventListener("click", () => at(input).click());
    at(input).addEventListener("change", () => {
      const files = [...at(input).files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
      at(input).value = "";
      take(files);
    });
  }
  listenToDrops(at("zone"), take, () => say("What was dropped could not be read: choose the folder by the button."));
  window.addEventListener("beforeunload", (event) => {
    if (queue.items.some((item) => ["ready", "sending", "checking"].includes(item.state))) event.preventDefault();
  });
  at("place").addEventListener("submit", (event) => event.preventDefault());
  at("dataset").addEventListener("change", showEarlier);
  at("dataset").addEventListener("focus", () => fillDatasets().catch(() => {}));
  for (const name of ["subject", "session"]) at(name).addEventListener("input", checkLabels);
  for (const name of ["subject", "session", "pattern", "rename"]) {
    at(name).addEventListener("change", () => {
      if (!at("pattern").value.trim()) at("pattern-problem").textContent = "";
      const place = chosen.length && findPlace();
      if (place) goOn(place);
    });
  }
  at("send").addEventListener("click", agree);
  at("discard").addEventListener("click", discard);
  at("pause-all").addEventListener("click", () => queue.items.forEach((item) => item.pause()));
  at("resume-all").addEventListener("click", () => {
    queue.items.forEach((item) => item.resume());
    queue.batches.forEach((batch) => batch.retry());
  });
  at("clear").addEventListener("click", () => {
    for (const what of [...rows.keys()]) {
      if (["done", "before", "refused"].includes(what.state)) drop(what, what instanceof Batch ? what.items : [what]);
    }
  });
}

for (const name of ["subject", "session"]) at(name).value = vx.parameters.get(name) || "01";
listen();
fitFrame();
fillDatasets().catch((error) => { at("summary").textContent = sentence(readProblem(error)); });
