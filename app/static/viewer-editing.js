/* The part of the page that corrects a label map. */
import { Correction } from "./viewer-correction.js";
import { chooseVersion, offerVersions, showChanges, showDifference, showLabels } from "./viewer-labels.js";
import { chosen, find, panes, state } from "./viewer-state.js";

const NO_GRID = {
  found: "a label map on another grid than its image, or with numbers above 255",
  expected: "one grid for both, and numbers up to 255",
  remedy: "Correct it in another program, and add it with: voxelight corrections add",
};

function settings() {
  return {
    tool: chosen("tool"),
    pen: Number(find("pen").value),
    shape: find("shape").value,
    size: Number(find("size").value),
    protect: find("protect").checked,
  };
}

export function setSize(size) {
  const range = find("size");
  range.value = size;
  find("size-said").textContent = `${range.value} mm`;
}

/* After each step: what went wrong, if anything, and what there is to undo. */
function showStep(problem = null) {
  const said = problem && `Found: ${problem.found}. Expected: ${problem.expected}. What to do: ${problem.remedy}`;
  find("correct-problem").textContent = said ?? "";
  find("undo").disabled = !state.correction?.past.length;
  find("redo").disabled = !state.correction?.future.length;
  if (state.correction) showLabels();
}

/* Do something that may be refused, and say so here. */
async function attempt(deed) {
  try {
    await deed();
  } catch (error) {
    if (!(error instanceof vx.Problem)) throw error;
    showStep(error.problem);
  }
}

function begin() {
  const [pane] = panes;
  if (!pane.canDraw()) return showStep(NO_GRID);
  find("difference").checked = false;
  pane.hideDrawing();
  find("saved").textContent = "";
  find("author").value = vx.author.get();
  find("pen").replaceChildren(...pane.view.labels.map(({ number, name }) => vx.make("option", { value: number }, name)));
  const finest = Math.min(...pane.grid.spacing);
  const size = find("size");
  [size.min, size.step, size.max] = [finest, finest, 40 * finest].map((side) => side.toFixed(2));
  setSize(5 * finest);
  state.correction = new Correction(pane, settings, showStep);
  show(true);
}

function show(open) {
  find("correct-closed").hidden = open;
  find("correct-open").hidden = !open;
  for (const pane of panes) if (pane.select) pane.select.disabled = open;
  showStep();
  showChanges();
}

function end() {
  state.correction.close();
  state.correction = null;
  show(false);
  showLabels();
}

async function save() {
  const author = find("author").value.trim();
  find("author-problem").textContent = author ? "" : "Say who corrected it.";
  if (!author) return find("author").focus();
  vx.author.set(author);
  find("save").disabled = true;
  try {
    const version = await state.correction.save(author, find("note").value.trim());
    const [pane] = panes;
    end();
    pane.view = await vx.call(`/results/${pane.view.result}/view`);
    offerVersions(pane);
    await chooseVersion(pane, version.artifact);
    find("note").value = "";
    find("saved").textContent = `Saved as ${version.name}.`;
  } finally {
    find("save").disabled = false;
  }
}

export function undo() {
  state.correction?.undo();
}

export function redo() {
  state.correction?.redo();
}

export function listenToEditing() {
  const on = (id, event, deed) => find(id).addEventListener(event, deed);
  on("difference", "change", showDifference);
  on("correct", "click", begin);
  on("undo", "click", undo);
  on("redo", "click", redo);
  on("size", "input", () => setSize(find("size").value));
  on("interpolate", "click", () => attempt(() => state.correction.interpolate(find("fill-plane").value, find("fill-which").value)));
  on("save", "click", () => attempt(save));
  on("discard", "click", () => {
    if (state.correction.saved || confirm("Discard what was drawn?")) end();
  });
  addEventListener("beforeunload", (event) => state.correction && !state.correction.saved && event.preventDefault());
}
