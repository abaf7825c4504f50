/* Controls that hold for every pane: window, opacity, time, planes, convention, keys, and a picture of it all. */
import { listenToEditing, redo, setSize, undo } from "./viewer-editing.js";
import { chosen, find, panes, say, state } from "./viewer-state.js";

export const KEYS = [
  ["1 – 5", "All planes, axial, coronal, sagittal, 3-D"],
  ["← → ↑ ↓", "Move the crosshair to the person's left, right, front, back"],
  ["Page up, Page down", "Move it towards the head, towards the feet"],
  ["[ ]", "Overlay fainter, stronger"],
  ["O", "Overlay off and on"],
  ["R", "Neurological or radiological convention"],
  ["T, Shift T", "Next and previous time point"],
  ["S", "Save a picture of what is shown"],
  ["L B E F", "While correcting: look, brush, erase, fill"],
  ["+ −", "Brush larger, smaller"],
  ["Ctrl Z, Ctrl Shift Z", "Undo, redo"],
  ["?", "This list"],
];
const MOVES = {
  ArrowLeft: [-1, 0, 0],
  ArrowRight: [1, 0, 0],
  ArrowUp: [0, 1, 0],
  ArrowDown: [0, -1, 0],
  PageUp: [0, 0, 1],
  PageDown: [0, 0, -1],
};
let shownOpacity = 60;

/* One crosshair for both panes, at one place in millimetres, whatever their grids. */
export function link() {
  for (const pane of panes)
    pane.onMove = (where) => {
      for (const other of panes) if (other !== pane) other.goTo(Array.from(where.mm).slice(0, 3), true);
      showPlace(pane, where);
    };
}

function showPlace(pane, { mm, vox, values }) {
  const sides = ["LR", "PA", "IS"].map((ends, axis) => `${ends[mm[axis] < 0 ? 0 : 1]} ${Math.abs(mm[axis]).toFixed(1)}`);
  const place = `${sides.join(", ")} mm · voxel ${Array.from(vox).join(", ")}`;
  const voxels = state.correction && pane === panes[0] ? state.correction.voxels : null;
  const [columns, rows] = pane.grid.shape;
  const number = voxels ? voxels[vox[0] + columns * (vox[1] + rows * vox[2])] : values[1] && Math.round(values[1].value);
  const label = pane.view.labels.find((each) => each.number === number);
  find("status").textContent = `${place} · intensity ${say(values[0].value)}${label ? ` · ${label.name}` : ""}`;
}

export function showWindow() {
  find("low").value = say(panes[0].image.cal_min);
  find("high").value = say(panes[0].image.cal_max);
}

function setWindow() {
  const [low, high] = [find("low").valueAsNumber, find("high").valueAsNumber];
  if (!(low < high)) return;
  for (const pane of panes) pane.setWindow(low, high);
}

export function setOpacity(percent) {
  const shown = Math.min(100, Math.max(0, percent));
  find("opacity").value = shown;
  find("opacity-said").textContent = `${shown} %`;
  for (const pane of panes) pane.setOpacity(shown / 100);
}

export function setFrame(frame) {
  const last = Number(find("frame").max);
  const shown = Math.min(last, Math.max(0, frame));
  find("frame").value = shown;
  find("frame-said").textContent = `${shown + 1} of ${last + 1}`;
  for (const { nv, image } of panes) nv.setFrame4D(image.id, Math.min(shown, image.nFrame4D - 1));
}

export function showPlane(plane) {
  document.querySelector(`input[name="plane"][value="${plane}"]`).checked = true;
  for (const pane of panes) pane.showPlane(plane);
}

export function setConvention(name) {
  document.querySelector(`input[name="convention"][value="${name}"]`).checked = true;
  localStorage.setItem("vx-convention", name);
  for (const pane of panes) pane.setConvention(name === "radiological");
}

/* A picture of what is shown, with what it is and what it is not for. */
function saveScreenshot() {
  const gap = 48;
  const picture = document.createElement("canvas");
  picture.width = panes.reduce((sum, { canvas }) => sum + canvas.width, 0);
  picture.height = Math.max(...panes.map(({ canvas }) => canvas.height)) + gap;
  const pen = picture.getContext("2d");
  pen.fillStyle = "#0a0d12";
  pen.fillRect(0, 0, picture.width, picture.height);
  let left = 0;
  for (const pane of panes) {
    pane.nv.drawScene();
    pen.drawImage(pane.canvas, left, 0);
    left += pane.canvas.width;
  }
  pen.fillStyle = "#e6edf3";
  pen.font = "20px system-ui, sans-serif";
  pen.fillText(`${find("title").textContent} · ${chosen("convention")} · ${find("notice").textContent}`, 12, picture.height - 17);
  picture.toBlob((blob) => {
    const url = URL.createObjectURL(blob);
    vx.make("a", { href: url, download: `${panes[0].view.title.split(".")[0]}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
}

export function listen() {
  const on = (id, event, deed) => find(id).addEventListener(event, deed);
  find("planes").addEventListener("change", () => showPlane(chosen("plane")));
  find("convention").addEventListener("change", () => setConvention(chosen("convention")));
  on("opacity", "input", () => setOpacity(Number(find("opacity").value)));
  on("low", "change", setWindow);
  on("high", "change", setWindow);
  on("auto", "click", () => {
    for (const pane of panes) pane.setWindow(pane.image.robust_min, pane.image.robust_max);
    showWindow();
  });
  on("smooth", "change", () => panes.forEach(({ nv }) => nv.setInterpolation(!find("smooth").checked)));
  on("frame", "input", () => setFrame(Number(find("frame").value)));
  on("drag", "change", () => panes.forEach(({ nv }) => nv.setDragMode(find("drag").value)));
  on("recentre", "click", () => panes.forEach((pane) => pane.resetView()));
  on("screenshot", "click", saveScreenshot);
  on("keys", "click", () => find("help").showModal());
  listenToEditing();
  document.addEventListener("keydown", onKey, true);
}

function onKey(event) {
  const typing = event.target.matches("select, textarea, input:not([type=checkbox]):not([type=radio])");
  if (typing || event.altKey || find("help").open || !panes.length) return;
  if (obey(event)) {
    event.preventDefault();
    event.stopPropagation();
  }
}

function obey({ key, ctrlKey, metaKey, shiftKey, target }) {
  if (ctrlKey || metaKey) {
    if (key.toLowerCase() !== "z" || !state.correction) return false;
    if (shiftKey) redo();
    else undo();
    return true;
  }
  if (key in MOVES) {
    if (key.startsWith("Arrow") && target.matches("input")) return false; // they choose between radio buttons
    panes[0].nv.moveCrosshairInVox(...MOVES[key]);
    return true;
  }
  const tools = { l: "look", b: "brush", e: "erase", f: "fill" };
  if (state.correction && key in tools) {
    document.querySelector(`input[name="tool"][value="${tools[key]}"]`).checked = true;
    return true;
  }
  const opacity = Number(find("opacity").value);
  const deeds = {
    "[": () => setOpacity(opacity - 10),
    "]": () => setOpacity(opacity + 10),
    o: () => {
      if (opacity) shownOpacity = opacity;
      setOpacity(opacity ? 0 : shownOpacity);
    },
    r: () => setConvention(chosen("convention") === "radiological" ? "neurological" : "radiological"),
    t: () => setFrame(Number(find("frame").value) + 1),
    T: () => setFrame(Number(find("frame").value) - 1),
    s: saveScreenshot,
    "+": () => setSize(Number(find("size").value) + Number(find("size").step)),
    "-": () => setSize(Number(find("size").value) - Number(find("size").step)),
    "?": () => find("help").showModal(),
  };
  ["all", "axial", "coronal", "sagittal", "render"].forEach((plane, at) => (deeds[at + 1] = () => showPlane(plane)));
  deeds[key]?.();
  return key in deeds;
}

