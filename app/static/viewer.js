/* The page of the viewer: what the address names, in one or two panes. */
import { KEYS, link, listen, setConvention, setFrame, setOpacity, showWindow } from "./viewer-controls.js";
import { CHANGED, offerVersions, showChanges, showLabels } from "./viewer-labels.js";
import { hasWebGl, Pane } from "./viewer-pane.js";
import { find, main, panes, showTrouble, state } from "./viewer-state.js";

const NAMED = { result: "results", scan: "scans", other: "results", otherscan: "scans" };
const NOTHING = ["no result and no scan in the address", "?result= or ?scan= with an id", "Open the viewer from a result."];
const NO_WEBGL = [
  "a browser without WebGL 2",
  "WebGL 2, which draws volumes",
  "Turn on hardware acceleration, or use a current browser. Until then pictures stand in.",
];
const NO_DRAWING = {
  expected: "an image that fits this machine",
  remedy: "Open it again, or on a machine with more graphics memory.",
};

/* What the address names: results or scans, at most two of them. */
function asked() {
  const named = Object.entries(NAMED).filter(([name]) => vx.parameters.get(name));
  return named.map(([name, path]) => `/${path}/${encodeURIComponent(vx.parameters.get(name))}/view`).slice(0, 2);
}

/* What stands over a pane; beside another one also which it is. */
function namePane(view, number, count) {
  const what = view.recipe || view.title;
  if (count < 2) return what;
  return `${number ? "Second" : "First"}: ${what}${view.job ? `, job ${view.job.slice(0, 8)}` : ""}`;
}

function addPane(view, number, views) {
  const canvas = vx.make("canvas", { role: "img", "aria-label": `${view.title}, subject ${view.subject}` });
  const head = vx.make("div", { class: "vw-pane-head" }, vx.make("strong", {}, namePane(view, number, views.length)));
  const box = vx.make("div", { class: "vw-canvas" }, canvas);
  find("panes").append(vx.make("section", { class: "vw-pane", "aria-label": view.title }, head, box));
  const pane = new Pane(canvas, view);
  pane.head = head;
  panes.push(pane);
}

function showHead(views) {
  const badge = (text) => vx.make("span", { class: "vw-badge" }, text);
  find("title").textContent = [...new Set(views.map(({ title }) => title))].join(" | ");
  document.title = `${views[0].title} · Viewer · Voxelight`;
  const facts = views.map(({ dataset, subject, session, recipe }) =>
    [dataset, `subject ${subject}`, `session ${session}`, recipe].filter(Boolean).join(" · "),
  );
  find("about").textContent = [...new Set(facts)].join(" | ");
  if (views.some(({ simulated }) => simulated)) find("about").append(" ", badge("Simulated data"));
  for (const { held } of views) if (held) find("about").append(" ", badge(`Held: ${held}`));
  find("notice").textContent = views[0].notice;
}

/* Without WebGL 2: the pictures that the server keeps. */
function showPictures(views) {
  for (const view of views) {
    const pictures = view.pictures.map(({ url, alt }) => vx.make("img", { src: url, alt }));
    const box = vx.make("div", { class: "vw-fallback", tabindex: 0 }, ...pictures);
    find("panes").append(vx.make("div", { class: "vw-canvas" }, box));
  }
  showTrouble(...NO_WEBGL);
}

function showParts([view]) {
  const row = ([keys, what]) => vx.make("tr", {}, vx.make("td", {}, vx.make("kbd", {}, keys)), vx.make("td", {}, what));
  find("help-keys").replaceChildren(...KEYS.map(row));
  for (const { name, colour } of CHANGED) find(`${name}-swatch`).style.background = colour;
  find("correct-part").hidden = !(view.result && view.versions.length);
  const frames = Math.max(...panes.map(({ image }) => image.nFrame4D));
  find("time").hidden = frames < 2;
  find("frame").max = frames - 1;
}

function ready(views) {
  const [first] = panes;
  link();
  listen();
  showParts(views);
  panes.forEach(offerVersions);
  first.onWindow = showWindow;
  setConvention(localStorage.getItem("vx-convention") === "radiological" ? "radiological" : "neurological");
  setOpacity(60);
  setFrame(0);
  showLabels();
  showWindow();
  showChanges();
  const there = views[0].labels.find(({ number }) => first.found?.has(number));
  if (!there || !first.goToLabel(there.number)) first.resetView();
  main.dataset.state = "ready";
}

async function start() {
  const named = asked();
  if (!named.length) return showTrouble(...NOTHING);
  try {
    const views = await Promise.all(named.map((path) => vx.call(path)));
    showHead(views);
    if (!hasWebGl()) return showPictures(views);
    views.forEach(addPane);
    await Promise.all(panes.map((pane) => pane.open()));
    ready(views);
  } catch (error) {
    const found = `an image that could not be drawn (${error.message})`;
    const problem = error.problem ?? { found, ...NO_DRAWING };
    showTrouble(problem.found, problem.expected, problem.remedy);
  }
}

globalThis.voxelightViewer = { panes, state }; // for scripts that look at what is shown
start();
