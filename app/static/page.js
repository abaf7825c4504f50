/* What every page of ours shares, as `vx`: the colour scheme, the parameters of the address, the API, the author. */
"use strict";

const vx = (() => {
  const parameters = new URLSearchParams(location.search);
  const scheme = parameters.get("theme");
  if (scheme === "light" || scheme === "dark") document.documentElement.dataset.theme = scheme;

  if (window.self !== window.top) document.documentElement.dataset.framed = "";

  /* An error with the problem that the server answered: found, expected, remedy. */
  class Problem extends Error {
    constructor(problem) {
      super(problem.detail);
      this.problem = problem;
    }
  }

  /* Ask the API; give what it answers, JSON as an object. */
  async function call(path, options = {}) {
    const asked = { ...options, headers: { ...options.headers } };
    if (asked.json !== undefined) {
      asked.body = JSON.stringify(asked.json);
      asked.headers["Content-Type"] = "application/json";
      delete asked.json;
    }
    const answer = await fetch(`/api/v1${path}`, asked);
    const type = answer.headers.get("Content-Type") || "";
    if (!answer.ok) {
      const said = type.includes("json") ? await answer.json() : {};
      throw new Problem({
        status: answer.status,
        found: `the answer ${answer.status}`,
        expected: "an answer of the server",
        remedy: "Try again; if it stays, look into the server's log.",
        detail: `The server answered ${answer.status}.`,
        ...said,
      });
    }
    return type.includes("json") ? answer.json() : answer;
  }

  /* An element with attributes and children; text stays text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /* Who acts, as that person typed it; remembered in this browser. */
  const author = {
    get: () => localStorage.getItem("vx-author") || "",
    set: (name) => localStorage.setItem("vx-author", name.trim()),
  };

  return { parameters, call, make, author, Problem };
})();
