/* How files, scans and problems look on the page of large uploads. */
"use strict";

const STATES = {
  ready: "Waits its turn",
  sending: "Sending",
  paused: "Paused",
  checking: "Being checked",
  whole: "Has come",
  done: "Stored",
  before: "Stored before",
  refused: "Refused",
  stopped: "Stopped",
};
const KINDS = {
  volume: "3-D image", series: "4-D image", betas: "Betas", events: "Events table", picture: "Picture",
};
const DEID = {
  clean: "There was nothing to take out of its header",
  cleaned: "Texts that may name somebody were taken out of its header",
  defaced: "Header cleaned, and the face taken out",
  "deface-failed": "Header cleaned; a face could not be taken out",
  kept: "Header kept: clinical data, not to be exported",
};
const SERIES = "Names, numbers and free texts were taken out of its headers, UIDs were replaced and dates moved";
const PLANES = "Middle axial, coronal and sagittal plane, the person's left on the left";

function sayCount(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/* A refusal in one line. */
function sentence({ found, remedy }) {
  return `${found.charAt(0).toUpperCase()}${found.slice(1)}. ${remedy}`;
}

function saySize(bytes) {
  for (const unit of ["bytes", "kB", "MB", "GB"]) {
    if (bytes < 1000 || unit === "GB") return `${bytes.toFixed(unit === "bytes" ? 0 : 1)} ${unit}`;
    bytes /= 1000;
  }
}

function saySeconds(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function sayState(item) {
  const share = item.file.size ? item.sent / item.file.size : 0;
  const percent = ["sending", "paused", "stopped"].includes(item.state) ? ` ${Math.floor(100 * share)} %` : "";
  return `${STATES[item.state]}${percent}`;
}

function sayGrid(geometry) {
  if (!geometry.shape) return "";
  const times = (sides) => sides.map((side) => Number(side.toPrecision(4))).join(" × ");
  return `${times(geometry.shape)} voxels of ${times(geometry.spacing_mm)} mm, stored as ${geometry.orientation}`;
}

function showProblem(part, name) {
  const { found, expected, remedy } = part.problem;
  const box = vx.make("div", { class: "problem" });
  if (part.name !== name) box.append(vx.make("strong", {}, part.name));
  for (const [label, text] of [["Found", found], ["Expected", expected], ["What to do", remedy]]) {
    box.append(vx.make("div", {}, vx.make("strong", {}, `${label}: `), text));
  }
  return box;
}

function showScan(scan) {
  const text = vx.make("div", {});
  const where = `subject ${scan.subject}, session ${scan.session}`;
  text.append(vx.make("p", {}, vx.make("strong", {}, KINDS[scan.kind] || scan.kind), ` ${scan.name}, ${where}`));
  const grid = sayGrid(scan.geometry);
  if (grid) text.append(vx.make("p", {}, grid));
  const facts = Object.entries(scan.facts).filter(([name]) => !name.endsWith("sha256") && !name.endsWith("uid"));
  const said = facts.map(([name, fact]) => `${name.replaceAll("_", " ")} ${sayFact(fact)}`);
  text.append(vx.make("p", { class: "vx-muted" }, said.join(" · ")));
  const header = sayHeader(scan);
  if (header) text.append(vx.make("p", { class: "vx-muted" }, header));
  if (scan.held) text.append(showHeld(scan));
  for (const warning of scan.warnings) {
    text.append(vx.make("p", { class: "warning" }, `${warning.found}. ${warning.remedy}`));
  }
  const box = vx.make("div", { class: "scan" }, text);
  if (scan.thumbnail_sha256) {
    const alt = scan.geometry.shape ? `${PLANES} of ${scan.name}` : `Preview of ${scan.name}`;
    box.prepend(vx.make("img", { src: `../scans/${scan.id}/thumbnail`, alt, loading: "lazy" }));
  }
  return box;
}

/* What was done to the header before the file was stored. */
function sayHeader(scan) {
  const series = scan.name.endsWith(".dcm.zip") && ["cleaned", "held"].includes(scan.deid_status);
  return series ? SERIES : DEID[scan.deid_status];
}

/* Why no job takes a scan yet, and where a person decides; in another tab, since leaving this one stops what is under way. */
function showHeld(scan) {
  const page = `/?dataset=${encodeURIComponent(scan.dataset)}`;
  const link = vx.make("a", { href: page, target: "_blank" }, "Look at it and decide");
  return vx.make("p", { class: "warning" }, `Held back: ${scan.held}. No job takes it until a person has looked. `, link);
}

function sayFact(fact) {
  if (typeof fact !== "number") return fact;
  return Number.isInteger(fact) ? fact.toLocaleString("en") : String(Number(fact.toPrecision(4)));
}

/* One row of the list: a file that stands alone, or a batch of loose ones. */
class Row {
  constructor(title, actions) {
    this.state = vx.make("span", { class: "state" });
    this.pause = vx.make("button", { type: "button", onclick: actions.pause, "aria-label": `Pause ${title}` }, "Pause");
    this.resume = vx.make("button", { type: "button", onclick: actions.resume, "aria-label": `Go on with ${title}` }, "Go on");
    this.remove = vx.make("button", { type: "button", onclick: actions.remove, "aria-label": `Remove ${title}` }, "Remove");
    this.bar = vx.make("progress", { max: 1, value: 0, "aria-label": title });
    this.outcome = vx.make("div", {});
    const head = vx.make("div", { class: "head" }, vx.make("strong", {}, title), this.state, this.pause, this.resume, this.remove);
    this.element = vx.make("li", {}, head, this.bar, this.outcome);
    this.title = title;
  }

  /* Buttons keep their place, so that nothing jumps under a finger. */
  draw(state, said, share, outcome) {
    this.state.textContent = said;
    this.state.className = `state ${{ done: "vx-good", before: "vx-good", refused: "vx-bad", stopped: "vx-bad" }[state] || ""}`;
    this.bar.value = share;
    this.pause.disabled = !["ready", "sending"].includes(state);
    this.resume.disabled = !["paused", "stopped"].includes(state);
    this.remove.textContent = ["done", "before", "refused"].includes(state) ? "Clear" : "Remove";
    this.remove.disabled = state === "checking";
    if (this.drawn === outcome) return;
    this.drawn = outcome;
    this.outcome.className = outcome.scans.length + outcome.problems.length > 6 ? "many" : "";
    this.outcome.replaceChildren(
      ...outcome.problems.map((part) => showProblem(part, this.title)), ...outcome.scans.map(showScan),
    );
  }
}
