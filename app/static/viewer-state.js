/* What the parts of the viewer share. */

export const find = (id) => document.getElementById(id);
export const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
export const say = (value) => String(Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(4)));

export const panes = [];
export const hidden = new Set(); // names of labels
export const state = { correction: null };
export const main = document.querySelector("main");

export function showTrouble(found, expected, remedy) {
  const trouble = find("trouble");
  trouble.hidden = false;
  trouble.replaceChildren(vx.make("strong", {}, `Found: ${found}.`), ` Expected: ${expected}. What to do: ${remedy}`);
  main.dataset.state = "trouble";
  find("status").textContent = "";
}
