/* Signs a browser in by a key: the answer sets a cookie that no script can read. */
"use strict";

const form = document.getElementById("form");
const key = document.getElementById("key");
const said = document.getElementById("said");

/* A link from elsewhere comes without the cookie; whoever has it is let through. */
async function letThrough() {
  try {
    await vx.call("/me");
    location.replace("/");
  } catch {
    key.focus();
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.textContent = "";
  try {
    await vx.call("/session", { method: "POST", json: { key: key.value.trim() } });
    key.value = "";
    location.replace("/");
  } catch (error) {
    const problem = error.problem;
    said.textContent = problem ? `Found ${problem.found}; expected ${problem.expected}. ${problem.remedy}` : String(error);
    key.select();
  }
});

/* Where there is an identity provider, the way to it. */
async function showProvider() {
  const ways = await vx.call("/session");
  if (ways.provider) {
    const place = document.getElementById("provider");
    place.querySelector("a").href = ways.provider;
    place.hidden = false;
  }
}

letThrough();
showProvider();
