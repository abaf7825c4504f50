/* Drawing over a label map: brush, eraser, fill and interpolation, each step undone and done again. */
import { around, hole, measure, packNifti } from "./viewer-voxels.js";

const { NVImage } = globalThis.niivue;
const AXES = { sagittal: 0, coronal: 1, axial: 2 };
const TOO_FEW = {
  found: "fewer than two slices of this plane that were drawn on",
  expected: "two slices with others between them",
  remedy: "Draw the label on two slices of the plane, then interpolate.",
};
const OPEN = {
  found: "an outline that is open in this slice",
  expected: "a closed one around the place that was chosen",
  remedy: "Close it with the brush, then fill it.",
};

export class Correction {
  /* `pane` shows the map; `settings` gives tool, pen, shape, size and protect; `changed` hears of each step, or of why
     there was none. */
  constructor(pane, settings, changed) {
    this.pane = pane;
    this.settings = settings;
    this.changed = changed;
    this.base = pane.version;
    this.voxels = Uint8Array.from(pane.maps.get(pane.version).voxels);
    this.counts = new Map([...pane.found].map(([label, { count }]) => [label, count]));
    this.past = [];
    this.future = [];
    this.stroke = null;
    this.drawnOn = []; // axis and slice of each stroke
    this.holder = pane.canvas.parentElement;
    this.cursor = vx.make("div", { class: "vw-cursor", hidden: true });
    this.holder.append(this.cursor);
    this.ends = new AbortController();
    this.listen();
    this.show();
  }

  get saved() {
    return this.past.length === 0;
  }

  close() {
    this.ends.abort();
    this.cursor.remove();
    delete this.holder.dataset.tool;
    this.pane.hideDrawing();
  }

  show() {
    this.pane.showDrawing(this.voxels, this.pane.view.labels, this.pane.hidden);
  }

  /* Take the pointer before NiiVue sees it, but for the tool that only looks, other buttons, and 3-D. */
  listen() {
    const options = { capture: true, signal: this.ends.signal };
    const ours = (event) => this.settings().tool !== "look" && (event.button ?? 0) === 0 && !event.shiftKey;
    const where = (event) => {
      const box = this.pane.canvas.getBoundingClientRect();
      return this.pane.voxelAt(event.clientX - box.left, event.clientY - box.top);
    };
    this.holder.addEventListener("pointerdown", (event) => ours(event) && this.begin(where(event), event), options);
    this.holder.addEventListener("pointermove", (event) => this.move(where(event), event), options);
    for (const name of ["pointerup", "pointercancel"]) this.holder.addEventListener(name, () => this.end(), options);
    this.holder.addEventListener("pointerleave", () => (this.cursor.hidden = true), options);
    for (const name of ["mousedown", "touchstart", "touchmove"])
      this.holder.addEventListener(name, (event) => ours(event) && this.onSlice && event.stopPropagation(), options);
  }

  begin(place, event) {
    this.onSlice = place !== null;
    if (!place) return;
    this.pane.canvas.focus();
    this.pane.canvas.setPointerCapture?.(event.pointerId);
    this.drawnOn.push({ axis: place.plane, slice: place.voxel[place.plane] });
    if (this.settings().tool === "fill") return this.fill(place);
    this.stroke = { plane: place.plane, tile: place.tile, last: place.voxel, before: new Map() };
    this.paint(place.voxel);
  }

  move(place, event) {
    this.showCursor(place, event);
    const { stroke } = this;
    if (!stroke || !place || place.tile !== stroke.tile) return;
    const step = place.voxel.map((x, axis) => x - stroke.last[axis]);
    const steps = Math.max(...step.map(Math.abs));
    for (let at = 1; at <= steps; at++) this.paint(stroke.last.map((x, axis) => Math.round(x + (step[axis] * at) / steps)));
    stroke.last = place.voxel;
  }

  end() {
    if (!this.stroke) return;
    const { before } = this.stroke;
    this.stroke = null;
    this.keep(before);
  }

  /* Set the voxels under the brush; those of other labels stay where that was asked for. */
  paint(voxel) {
    const { shape, size, tool } = this.settings();
    const touched = around(voxel, size / 2, this.pane.grid, shape === "ball" ? null : this.stroke.plane);
    this.set(touched, tool === "erase" ? 0 : null, this.stroke.before);
    this.pane.nv.refreshDrawing(true);
  }

  set(places, value, before) {
    const { pen, protect } = this.settings();
    const target = value ?? pen;
    for (const at of places) {
      const old = this.voxels[at];
      if (old === target || (protect && old !== 0 && old !== pen)) continue;
      if (!before.has(at)) before.set(at, old);
      this.voxels[at] = target;
    }
  }

  fill({ voxel, plane }) {
    const inside = hole(this.voxels, voxel, plane, this.pane.grid);
    if (!inside) return this.changed(OPEN);
    const before = new Map();
    this.set(inside, null, before);
    this.keep(before);
  }

  /* Ask the server to fill in between slices, and take what it answers as one step. */
  async interpolate(plane, which) {
    const asked = new URLSearchParams({ label: this.settings().pen, plane });
    if (which === "drawn") {
      const slices = this.drawnOn.filter(({ axis }) => axis === AXES[plane]).map(({ slice }) => slice);
      const last = [...new Set(slices.reverse())].slice(0, 2).sort((a, b) => a - b);
      if (last.length < 2) return this.changed(TOO_FEW);
      asked.set("first", last[0]);
      asked.set("last", last[1]);
    }
    const body = await packNifti(this.voxels, this.pane.grid);
    const path = `/results/${this.pane.view.result}/interpolation?${asked}`;
    const answer = await vx.call(path, { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } });
    const image = await NVImage.loadFromUrl({ url: await answer.arrayBuffer(), name: "filled.nii.gz" });
    image.setAffine(this.pane.view.image.geometry.affine);
    const filled = image.img2RAS();
    const before = new Map();
    for (let at = 0; at < filled.length; at++)
      if (filled[at] !== this.voxels[at]) {
        before.set(at, this.voxels[at]);
        this.voxels[at] = filled[at];
      }
    this.keep(before);
  }

  keep(before) {
    if (!before.size) return this.pane.nv.refreshDrawing(true);
    const places = Uint32Array.from(before.keys());
    const fresh = Uint8Array.from(places, (at) => this.voxels[at]);
    const step = { places, old: Uint8Array.from(before.values()), fresh };
    this.past.push(step);
    this.future = [];
    this.count(step.old, step.fresh);
  }

  undo() {
    this.step(this.past, this.future, "fresh", "old");
  }

  redo() {
    this.step(this.future, this.past, "old", "fresh");
  }

  step(from, to, now, then) {
    const step = from.pop();
    if (!step) return;
    to.push(step);
    step.places.forEach((at, n) => (this.voxels[at] = step[then][n]));
    this.count(step[now], step[then]);
  }

  count(old, fresh) {
    for (let n = 0; n < old.length; n++) {
      this.counts.set(old[n], (this.counts.get(old[n]) ?? 0) - 1);
      this.counts.set(fresh[n], (this.counts.get(fresh[n]) ?? 0) + 1);
    }
    this.pane.nv.refreshDrawing(true);
    this.changed();
  }

  /* Where the middle of a label is by now. */
  middleOf(label) {
    return measure(this.voxels, this.pane.grid).get(label)?.middle;
  }

  async save(author, note) {
    const asked = new URLSearchParams({ author, note, base: this.base });
    const body = await packNifti(this.voxels, this.pane.grid);
    const path = `/results/${this.pane.view.result}/corrections?${asked}`;
    return vx.call(path, { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } });
  }

  /* A circle of the brush's size under the pointer. */
  showCursor(place, event) {
    const { tool, size } = this.settings();
    this.holder.dataset.tool = tool;
    if (tool === "look") delete this.holder.dataset.tool;
    this.cursor.hidden = !place || (tool !== "brush" && tool !== "erase");
    if (this.cursor.hidden) return;
    const box = this.holder.getBoundingClientRect();
    const wide = Math.max(3, size * this.pane.scaleAt(place.tile));
    Object.assign(this.cursor.style, {
      width: `${wide}px`,
      height: `${wide}px`,
      left: `${event.clientX - box.left - wide / 2}px`,
      top: `${event.clientY - box.top - wide / 2}px`,
    });
  }
}

