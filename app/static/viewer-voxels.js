/* Voxels of a label map in RAS+ order, the first axis running fastest: measured, painted, filled, written as NIfTI. */

/* Where the voxels of an image lie once its axes are turned to RAS+: shape, spacing in mm, and three rows of an affine. */
export function gridOf(image) {
  const shape = image.dimsRAS.slice(1, 4);
  const at = (i, j, k) => Array.from(image.vox2mm([i, j, k], image.matRAS));
  const origin = at(0, 0, 0);
  const steps = [at(1, 0, 0), at(0, 1, 0), at(0, 0, 1)].map((end) => end.map((x, axis) => x - origin[axis]));
  const affine = [0, 1, 2].map((row) => [...steps.map((step) => step[row]), origin[row]]);
  return { shape, spacing: steps.map((step) => Math.hypot(...step)), affine };
}

/* Voxels of each label, and the one of them that lies nearest to their mean. */
export function measure(voxels, { shape: [columns, rows] }) {
  const sums = new Map();
  for (let at = 0; at < voxels.length; at++) {
    const label = voxels[at];
    if (!label) continue;
    let sum = sums.get(label);
    if (!sum) sums.set(label, (sum = [0, 0, 0, 0]));
    const slice = Math.floor(at / (columns * rows));
    const rest = at - slice * columns * rows;
    sum[0] += 1;
    sum[1] += rest % columns;
    sum[2] += Math.floor(rest / columns);
    sum[3] += slice;
  }
  const found = new Map();
  for (const [label, [count, i, j, k]] of sums)
    found.set(label, { count, mean: [i / count, j / count, k / count], near: Infinity, middle: [0, 0, 0] });
  for (let at = 0; at < voxels.length; at++) {
    const each = found.get(voxels[at]);
    if (!each) continue;
    const slice = Math.floor(at / (columns * rows));
    const rest = at - slice * columns * rows;
    const place = [rest % columns, Math.floor(rest / columns), slice];
    const away = place.reduce((sum, x, axis) => sum + (x - each.mean[axis]) ** 2, 0);
    if (away < each.near) Object.assign(each, { near: away, middle: place });
  }
  return found;
}

/* Indices of the voxels within a radius in mm of one, in all axes or, with `plane`, in the slice that cuts that axis. */
export function* around(centre, radius, { shape, spacing }, plane = null) {
  const reach = spacing.map((side, axis) => (axis === plane ? 0 : Math.floor(radius / side)));
  const from = centre.map((x, axis) => Math.max(0, x - reach[axis]));
  const to = centre.map((x, axis) => Math.min(shape[axis] - 1, x + reach[axis]));
  for (let k = from[2]; k <= to[2]; k++)
    for (let j = from[1]; j <= to[1]; j++)
      for (let i = from[0]; i <= to[0]; i++) {
        const away = [i, j, k].reduce((sum, x, axis) => sum + ((x - centre[axis]) * spacing[axis]) ** 2, 0);
        if (away <= radius ** 2 + 1e-9) yield i + shape[0] * (j + shape[1] * k);
      }
}

/* Indices of the hole around a voxel in one slice, which voxels of other values close in; null where it is open. */
export function hole(voxels, start, plane, { shape }) {
  const steps = [1, shape[0], shape[0] * shape[1]];
  const axes = [0, 1, 2].filter((axis) => axis !== plane);
  const first = start.reduce((sum, x, axis) => sum + x * steps[axis], 0);
  const value = voxels[first];
  const seen = new Set([first]);
  const waiting = [start];
  while (waiting.length) {
    const place = waiting.pop();
    for (const axis of axes)
      for (const way of [-1, 1]) {
        const next = place.slice();
        next[axis] += way;
        if (next[axis] < 0 || next[axis] >= shape[axis]) return null;
        const at = next.reduce((sum, x, each) => sum + x * steps[each], 0);
        if (voxels[at] !== value || seen.has(at)) continue;
        seen.add(at);
        waiting.push(next);
      }
  }
  return seen;
}

/* What became of each voxel from one map to another: 1 where a label was added, 2 where it was taken away. */
export function differ(before, after) {
  const changed = new Uint8Array(after.length);
  for (let at = 0; at < after.length; at++) if (before[at] !== after[at]) changed[at] = after[at] ? 1 : 2;
  return changed;
}

/* A label map as a gzipped NIfTI-1 file of 8-bit voxels. */
export async function packNifti(voxels, { shape, spacing, affine }) {
  const header = new DataView(new ArrayBuffer(352));
  header.setInt32(0, 348, true);
  [3, ...shape, 1, 1, 1, 1].forEach((side, at) => header.setInt16(40 + 2 * at, side, true));
  header.setInt16(68, 1002, true); // intent: labels
  header.setInt16(70, 2, true); // unsigned 8 bits
  header.setInt16(72, 8, true);
  [1, ...spacing, 1, 1, 1, 1].forEach((side, at) => header.setFloat32(76 + 4 * at, side, true));
  header.setFloat32(108, 352, true);
  header.setFloat32(112, 1, true);
  header.setUint8(123, 2); // millimetres
  header.setInt16(254, 1, true); // the sform holds
  affine.flat().forEach((x, at) => header.setFloat32(280 + 4 * at, x, true));
  [110, 43, 49, 0].forEach((letter, at) => header.setUint8(344 + at, letter));
  const file = new Blob([header.buffer, voxels]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(file).blob();
}
