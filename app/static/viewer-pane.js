/* One image with its label map in a canvas of NiiVue. */
import { gridOf, measure } from "./viewer-voxels.js";

const { Niivue, NVImage } = globalThis.niivue;
export const PLANES = { axial: 0, coronal: 1, sagittal: 2, render: 4 };
const HALF = 0.495; // of the canvas; what is left keeps the letters of two planes apart
const LAYOUT = [
  ["coronal", 0, 0],
  ["sagittal", 1 - HALF, 0],
  ["axial", 0, 1 - HALF],
  ["render", 1 - HALF, 1 - HALF],
];
const CROSSHAIR_PX = 1.6;
const OPTIONS = {
  backColor: [0.04, 0.05, 0.07, 1],
  fontColor: [1, 0.82, 0.24, 1],
  crosshairColor: [0.35, 0.78, 1, 0.75],
  crosshairWidthUnit: "mm",
  crosshairGap: 8,
  fontMinPx: 18,
  showAllOrientationMarkers: true,
  isOrientCube: true,
  dragAndDropEnabled: false,
  loadingText: "",
  logLevel: "error",
  viewModeHotKey: "",
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
};

export function hasWebGl() {
  return Boolean(document.createElement("canvas").getContext("webgl2"));
}

/* Colours for NiiVue: label 0 and hidden ones transparent. */
export function colourMap(labels, hidden = new Set()) {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const { number, name, colour } of labels) {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    table.R.push(red);
    table.G.push(green);
    table.B.push(blue);
    table.A.push(hidden.has(name) ? 0 : 255);
    table.I.push(number);
    table.labels.push(name);
  }
  return table;
}

/* Letters of orientation a little within their plane, with a dark rim: they are read on white and on black, whole. */
function rimLetters(nv) {
  const { drawText, drawTextLeft, drawTextRight, drawTextAbove, drawTextBelow } = Niivue.prototype;
  const isLetter = (text) => /^[LRAPSI]$/.test(text);
  nv.drawText = function ([x, y], text, scale, colour) {
    const rim = isLetter(text) ? [[-1.5, 0], [1.5, 0], [0, -1.5], [0, 1.5]] : [];
    for (const [dx, dy] of rim) drawText.call(this, [x + dx, y + dy], text, scale, [0, 0, 0, 1]);
    drawText.call(this, [x, y], text, scale, colour);
  };
  const within = (draw, dx, dy) => (place, text, ...rest) =>
    draw.call(nv, isLetter(text) ? [place[0] + dx, place[1] + dy] : place, text, ...rest);
  nv.drawTextLeft = within(drawTextLeft, -5, 0);
  nv.drawTextRight = within(drawTextRight, 5, 0);
  nv.drawTextAbove = within(drawTextAbove, 0, -3);
  nv.drawTextBelow = within(drawTextBelow, 0, 3);
}

export class Pane {
  constructor(canvas, view) {
    this.canvas = canvas;
    this.view = view;
    this.maps = new Map(); // artifact -> { image, voxels, found }
    this.version = null;
    this.opacity = 0.6;
    this.hidden = new Set();
    this.onMove = () => {};
    this.onWindow = () => {};
  }

  async open() {
    const { image, labels, versions } = this.view;
    this.nv = new Niivue({ ...OPTIONS });
    rimLetters(this.nv);
    this.nv.onLocationChange = (where) => this.onMove(where);
    this.nv.onIntensityChange = () => this.onWindow();
    await this.nv.attachToCanvas(this.canvas);
    this.nv.graph.autoSizeMultiplanar = false;
    this.image = await this.read(image.url, image.name, { colormap: "gray" });
    this.nv.addVolume(this.image);
    this.grid = gridOf(this.image);
    this.voxelMl = this.grid.spacing[0] * this.grid.spacing[1] * this.grid.spacing[2] / 1000;
    this.showPlane("all");
    new ResizeObserver(() => this.fitCrosshair()).observe(this.canvas.parentElement);
    if (labels.length && versions.length) await this.showVersion(versions[0].artifact);
    this.nv.createOnLocationChange();
  }

  /* Read an image, and lay it where the server says that it lies: readers of NIfTI differ where a header says it twice. */
  async read(url, name, options = {}) {
    const image = await NVImage.loadFromUrl({ url, name, ...options });
    const affine = this.view.image.geometry.affine;
    if (affine.flat().some((x, at) => Math.abs(x - image.hdr.affine.flat()[at]) > 1e-3)) image.setAffine(affine);
    return image;
  }

  async readMap(artifact) {
    if (!this.maps.has(artifact)) {
      const { url, name } = this.view.versions.find((version) => version.artifact === artifact);
      const image = await this.read(url, name);
      const voxels = image.img2RAS();
      this.maps.set(artifact, { image, voxels, found: measure(voxels, gridOf(image)) });
    }
    return this.maps.get(artifact);
  }

  async showVersion(artifact) {
    const { image, found } = await this.readMap(artifact);
    while (this.nv.volumes.length > 1) this.nv.removeVolumeByIndex(1);
    image.opacity = this.opacity;
    image.setColormapLabel(colourMap(this.view.labels, this.hidden));
    this.nv.addVolume(image);
    this.version = artifact;
    this.found = found;
  }

  /* Whether the map can be drawn on: its voxels are those of the image, and its numbers fit 8 bits. */
  canDraw() {
    const map = this.version && this.maps.get(this.version);
    const fits = map && map.image.dimsRAS.slice(1, 4).every((side, axis) => side === this.grid.shape[axis]);
    return Boolean(fits) && this.view.labels.every((label) => label.number < 256);
  }

  /* Show voxels over the image in place of the label map, in colours of their own. */
  showDrawing(voxels, labels, hidden, faint = 0) {
    if (!this.nv.drawBitmap) this.nv.createEmptyDrawing();
    this.nv.drawBitmap = voxels;
    this.nv.setDrawColormap(colourMap(labels, hidden));
    this.nv.setDrawOpacity(faint ? 0.9 : this.opacity);
    this.nv.setOpacity(1, this.opacity * faint);
    this.nv.refreshDrawing(true);
    this.faint = faint;
    this.drawn = true;
  }

  hideDrawing() {
    if (!this.drawn) return;
    this.drawn = false;
    this.nv.closeDrawing();
    this.nv.setOpacity(1, this.opacity);
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    if (this.nv.volumes.length < 2) return;
    this.nv.setOpacity(1, this.drawn ? opacity * this.faint : opacity);
    if (this.drawn && !this.faint) this.nv.setDrawOpacity(opacity);
  }

  setHidden(hidden) {
    this.hidden = hidden;
    if (this.nv.volumes.length < 2) return;
    this.nv.volumes[1].setColormapLabel(colourMap(this.view.labels, hidden));
    this.nv.updateGLVolume();
    if (this.drawn && !this.faint) this.nv.setDrawColormap(colourMap(this.view.labels, hidden));
  }

  showPlane(plane) {
    this.plane = plane;
    if (plane === "all") {
      const tiles = LAYOUT.map(([name, x, y]) => ({ sliceType: PLANES[name], position: [x, y, HALF, HALF] }));
      this.nv.setCustomLayout(tiles);
      this.nv.setSliceType(3);
    } else {
      this.nv.clearCustomLayout();
      this.nv.setSliceType(PLANES[plane]);
    }
    this.fitCrosshair();
  }

  /* As wide on the screen in every plane and at every size; NiiVue counts its width in space. */
  fitCrosshair() {
    const scales = this.nv.screenSlices.flatMap(({ axCorSag }, tile) => (axCorSag < 3 ? [this.scaleAt(tile)] : []));
    if (scales.length) this.nv.opts.crosshairWidth = CROSSHAIR_PX / Math.min(...scales);
    this.nv.drawScene();
  }

  setConvention(radiological) {
    this.nv.setRadiologicalConvention(radiological);
    this.nv.drawScene();
  }

  goTo(millimetres, quiet = false) {
    const place = this.nv.mm2frac(millimetres);
    this.nv.scene.crosshairPos = place.map((x) => Math.min(1, Math.max(0, x)));
    if (!quiet) this.nv.createOnLocationChange();
    this.nv.drawScene();
  }

  goToLabel(number) {
    const there = this.found?.get(number);
    if (there) this.goTo(this.toMillimetres(there.middle));
    return Boolean(there);
  }

  toMillimetres(voxel) {
    return this.grid.affine.map((row) => row[3] + voxel.reduce((sum, x, axis) => sum + x * row[axis], 0));
  }

  setWindow(low, high) {
    this.image.cal_min = low;
    this.image.cal_max = high;
    this.nv.updateGLVolume();
  }

  resetView() {
    this.nv.setPan2Dxyzmm([0, 0, 0, 1]);
    this.nv.volScaleMultiplier = 1;
    this.goTo(this.toMillimetres(this.grid.shape.map((side) => Math.floor(side / 2))));
  }

  /* The slice under a place of the canvas in CSS pixels: its voxel and the axis that it cuts; null elsewhere. */
  voxelAt(x, y) {
    const ratio = this.nv.uiData.dpr;
    const tile = this.nv.tileIndex(x * ratio, y * ratio);
    if (tile < 0 || this.nv.screenSlices[tile].axCorSag > 2) return null;
    const place = this.nv.screenXY2TextureFrac(x * ratio, y * ratio, tile, true);
    if (place[0] < 0) return null;
    return { voxel: Array.from(this.nv.frac2vox(place)), plane: 2 - this.nv.screenSlices[tile].axCorSag, tile };
  }

  /* Where the crosshair is drawn in a plane, in CSS pixels of the canvas. */
  whereIs(plane) {
    for (const [at, slice] of this.nv.screenSlices.entries()) {
      if (slice.axCorSag !== PLANES[plane]) continue;
      const found = this.nv.frac2canvasPosWithTile(this.nv.scene.crosshairPos, PLANES[plane]);
      if (found && found.tileIndex === at) return found.pos.map((x) => x / this.nv.uiData.dpr);
    }
    return null;
  }

  /* CSS pixels a millimetre in the slice at a tile. */
  scaleAt(tile) {
    const slice = this.nv.screenSlices[tile];
    return slice.leftTopWidthHeight[2] / Math.abs(slice.fovMM[0]) / this.nv.uiData.dpr;
  }
}
