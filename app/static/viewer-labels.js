/* The list of labels with their volumes, the versions of a label map, and what differs between two of them. */
import { find, hidden, panes, state } from "./viewer-state.js";
import { differ } from "./viewer-voxels.js";

export const CHANGED = [
  { number: 1, name: "added", colour: "#56b4e9" },
  { number: 2, name: "removed", colour: "#e8590c" },
];

/* Which of the label maps a pane shows: the model's own or a correction. */
export function offerVersions(pane) {
  pane.select?.closest("label").remove();
  if (!pane.view.versions.length) return;
  const options = pane.view.versions.map((version, number) => {
    const text = version.author ? `Correction ${number} by ${version.author}` : "As the model set it";
    return vx.make("option", { value: version.artifact, title: version.note }, text);
  });
  pane.select = vx.make("select", { onchange: () => chooseVersion(pane, pane.select.value) }, ...options);
  pane.head.append(vx.make("label", {}, "Label map ", pane.select));
}

export async function chooseVersion(pane, artifact) {
  find("difference").checked = false;
  pane.hideDrawing();
  await pane.showVersion(artifact);
  pane.select.value = artifact;
  showLabels();
  showChanges();
}

function allLabels() {
  const byName = new Map();
  for (const { view } of panes) for (const label of view.labels) if (!byName.has(label.name)) byName.set(label.name, label);
  return [...byName.values()];
}

function volumeOf(pane, name) {
  const label = pane.view.labels.find((each) => each.name === name);
  if (!label) return null;
  const counts = state.correction && pane === panes[0] ? state.correction.counts.get(label.number) : pane.found?.get(label.number)?.count;
  return (counts ?? 0) * pane.voxelMl;
}

export function showLabels() {
  const labels = allLabels();
  find("labels-part").hidden = !labels.length;
  const two = panes.length > 1;
  const names = two ? ["First, ml", "Second, ml", "Change"] : ["Volume, ml"];
  find("labels-head").replaceChildren(vx.make("tr", {}, ...["Label", ...names].map((name) => vx.make("th", { scope: "col" }, name))));
  find("labels").replaceChildren(...labels.map((label) => showLabel(label, two)));
}

function showLabel({ name, colour }, two) {
  const tick = vx.make("input", { type: "checkbox", "aria-label": `Show ${name}`, onchange: () => toggleLabel(name, tick.checked) });
  tick.checked = !hidden.has(name);
  const swatch = vx.make("span", { class: "vw-swatch" });
  swatch.style.background = colour;
  const go = vx.make("button", { type: "button", onclick: () => goToLabel(name) }, name);
  const volumes = panes.map((pane) => volumeOf(pane, name));
  const cells = volumes.map((volume) => vx.make("td", {}, volume === null ? "–" : volume.toFixed(3)));
  if (two) {
    const [first, second] = volumes;
    const change = first ? `${second - first >= 0 ? "+" : "−"}${Math.abs((100 * (second - first)) / first).toFixed(1)}\u00a0%` : "–";
    cells.push(vx.make("td", {}, second === null ? "–" : change));
  }
  return vx.make("tr", { "data-label": name }, vx.make("td", {}, vx.make("span", { class: "vw-label" }, tick, swatch, go)), ...cells);
}

function toggleLabel(name, shown) {
  if (shown) hidden.delete(name);
  else hidden.add(name);
  for (const pane of panes) pane.setHidden(hidden);
}

function goToLabel(name) {
  for (const row of find("labels").rows) row.classList.toggle("vw-picked", row.dataset.label === name);
  const pane = panes.find(({ view, found }) => view.labels.some((label) => label.name === name && found?.has(label.number))) ?? panes[0];
  const { number } = pane.view.labels.find((label) => label.name === name) ?? {};
  const middle = state.correction && pane === panes[0] && state.correction.middleOf(number);
  if (middle) pane.goTo(pane.toMillimetres(middle));
  else if (!pane.goToLabel(number)) find("status").textContent = `No voxel is labelled ${name}.`;
}

/* Voxels of a correction that its base has not, and the reverse. */
export function showChanges() {
  const [{ view, version }] = panes;
  const shown = view.versions.find((each) => each.artifact === version);
  const base = shown?.base && view.versions.some((each) => each.artifact === shown.base);
  find("difference-part").hidden = !base || Boolean(state.correction);
  if (!base) return;
  const rows = Object.entries(shown.changes).map(([name, { added, removed, dice }]) =>
    vx.make("tr", {}, ...[name, added, removed, dice.toFixed(3)].map((cell) => vx.make("td", {}, String(cell)))),
  );
  find("changes").replaceChildren(...rows);
  const author = vx.make("p", { class: "vw-small vx-muted" }, `By ${shown.author}${shown.note ? `: ${shown.note}` : ""}`);
  find("difference-part").querySelector("p")?.remove();
  find("difference-part").append(author);
}

export async function showDifference() {
  const [pane] = panes;
  pane.hideDrawing();
  if (!find("difference").checked) return;
  const { base } = pane.view.versions.find((each) => each.artifact === pane.version);
  const [before, after] = await Promise.all([pane.readMap(base), pane.readMap(pane.version)]);
  pane.showDrawing(differ(before.voxels, after.voxels), CHANGED, new Set(), 0.25);
}

