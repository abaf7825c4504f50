/* What is chosen or dropped as files with their paths, and the height of the frame that shows this page. */
"use strict";

const LITTER = ["thumbs.db", "desktop.ini", "dicomdir"];
const LOWEST = 640; // pixels; a longer list scrolls within the frame from the highest on
const HIGHEST = 1800;

function isLitter(path) {
  const parts = path.split("/");
  return parts.some((part) => part.startsWith(".") || part === "__MACOSX") || LITTER.includes(parts.pop().toLowerCase());
}

/* Every file below what was dropped, with its path. */
async function readDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, path: file.name }));
  const files = [];
  const walk = async (entry, above) => {
    const path = above ? `${above}/${entry.name}` : entry.name;
    if (entry.isFile) {
      files.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const each of some) await walk(each, path);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return files;
}

/* Give dropped files to `take`, wherever on the page they fall: a browser would open what falls beside the zone. */
function listenToDrops(zone, take, refuse) {
  const holdsFiles = (event) => [...event.dataTransfer.types].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    zone.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  document.addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    zone.classList.remove("over");
    try {
      take(await readDropped(event.dataTransfer));
    } catch (error) {
      refuse(error);
    }
  });
}

/* Let the frame be as high as what it shows, within bounds. */
function fitFrame() {
  const frame = window.frameElement;
  if (!frame) return;
  const fit = () => {
    const wanted = Math.ceil(document.querySelector("main").getBoundingClientRect().height) + 8;
    frame.style.height = `${Math.min(HIGHEST, Math.max(LOWEST, wanted))}px`;
  };
  new ResizeObserver(fit).observe(document.querySelector("main"));
  fit();
}
