/* Review by keyboard: A, R, U give a verdict, C goes to the comment, the arrows walk through the cases. */
"use strict";

(() => {
  const { parameters, call, make, author } = vx;
  const at = (id) => document.getElementById(id);
  const page = document.querySelector("main");
  const WORDS = { accept: "Accepted", reject: "Rejected", unsure: "Unsure" };
  const KEYS = { a: "accept", r: "reject", u: "unsure" };
  const PAGE = 200;
  const buttons = [...document.querySelectorAll("[data-verdict]")];

  let job = parameters.get("job");
  let all = []; // every case of the job, in its order
  let shown = []; // those that the filter shows
  let place = 0;
  let saving = Promise.resolve();
  const reviewer = () => at("reviewer").value.trim();

  /* ---- what the server knows ---- */

  async function load() {
    page.dataset.state = "loading";
    complain(null);
    const who = reviewer();
    if (!job && parameters.get("result")) job = (await call(`/results/${encodeURIComponent(parameters.get("result"))}/case`)).job;
    if (!job) return say("Choose a job: this page is opened from Jobs, Results or Review.");
    const asked = new URLSearchParams({ limit: PAGE });
    if (who) asked.set("reviewer", who);
    const cases = [];
    for (let cursor = ""; cursor !== null; ) {
      if (cursor) asked.set("cursor", cursor);
      const part = await call(`/jobs/${encodeURIComponent(job)}/cases?${asked}`);
      cases.push(...part.items);
      cursor = part.next_cursor;
    }
    const before = all.length ? current()?.run : parameters.get("result");
    all = cases;
    filter(before);
    page.dataset.state = "ready";
  }

  function filter(run) {
    const wish = at("filter").value;
    const fits = {
      "": () => true,
      none: (each) => !each.own,
      outliers: (each) => each.outliers.length > 0,
    }[wish] || ((each) => each.own?.verdict === wish);
    shown = all.filter(fits);
    const found = shown.findIndex((each) => each.run === run);
    const waiting = shown.findIndex((each) => !each.own);
    place = found >= 0 ? found : Math.max(0, waiting);
    draw();
  }

  const current = () => shown[place];

  function save(verdict) {
    const one = current();
    if (!one) return;
    if (!reviewer()) {
      complain({ found: "a verdict without a name", expected: "your name", remedy: "Type it above: verdicts are kept under it." });
      at("reviewer").focus();
      return;
    }
    const who = reviewer();
    const body = { verdict, comment: at("comment").value.trim() };
    at("saved").textContent = "Saving …";
    saving = saving.then(async () => {
      const headers = one.own ? { "If-Match": `"${one.own.version}"` } : {};
      const address = `/results/${one.run}/reviews/${encodeURIComponent(who)}`;
      const own = await call(address, { method: "PUT", json: body, headers });
      const known = await call(`/results/${one.run}/case?${new URLSearchParams({ reviewer: who })}`);
      Object.assign(one, known, { own });
      complain(null);
      page.dataset.saved = String(Number(page.dataset.saved || 0) + 1);
      if (current() === one && at("onwards").checked && place < shown.length - 1) go(1);
      else draw();
      at("saved").textContent = `Saved: ${one.item}, ${WORDS[verdict].toLowerCase()}.`;
    }).catch((error) => {
      at("saved").textContent = "Not saved.";
      complain(error.problem || { found: error.message, expected: "an answer of the server", remedy: "Try again." });
    });
  }

  /* ---- what the person sees ---- */

  function go(step) {
    const next = place + step;
    if (next < 0 || next >= shown.length) return;
    place = next;
    draw();
  }

  function draw() {
    const one = current();
    count();
    for (const button of buttons) {
      button.disabled = !one;
      button.setAttribute("aria-pressed", String(one?.own?.verdict === button.dataset.verdict));
    }
    at("comment").disabled = !one;
    at("back").disabled = !one || place === 0;
    at("next").disabled = !one || place >= shown.length - 1;
    at("place").textContent = one ? `Case ${place + 1} of ${shown.length}` : "";
    at("saved").textContent = one?.own ? `Saved ${new Date(one.own.updated_at).toLocaleString()}` : "\u00a0";
    if (!one) return empty();
    at("case-title").textContent = one.item;
    at("case-facts").textContent = `${one.dataset} · subject ${one.subject} · session ${one.session}`;
    at("notice").textContent = one.notice;
    at("title").textContent = `Review of ${one.dataset}`;
    at("comment").value = one.own?.comment || "";
    at("viewer").href = `../pages/viewer?${new URLSearchParams({ result: one.run })}`;
    at("viewer").hidden = one.kind !== "segment";
    document.querySelector(".rv-convention").hidden = one.kind !== "segment";
    mark(one);
    picture(one);
    tell(one);
    measure(one);
    ahead(shown[place + 1]);
  }

  function empty() {
    at("case-title").textContent = "No case";
    for (const id of ["case-facts", "marks", "captions", "others", "numbers"]) at(id).replaceChildren();
    at("comment").value = "";
    at("viewer").hidden = true;
    say(all.length
      ? "No case fits this choice. Choose All cases above to go on."
      : "This job has no result yet. It shows here, case by case, as soon as items are done.");
  }

  function say(text) {
    at("pictures").replaceChildren(make("p", {}, text));
  }

  function count() {
    const told = Object.keys(WORDS).map((word) => all.filter((each) => each.own?.verdict === word).length);
    const done = told.reduce((sum, each) => sum + each, 0);
    [...at("bar").children].forEach((part, number) => {
      part.style.width = all.length ? `${(100 * told[number]) / all.length}%` : "0";
    });
    at("bar").setAttribute("aria-valuenow", done);
    at("bar").setAttribute("aria-valuemax", Math.max(1, all.length));
    at("progress").textContent = all.length ? `${done} of ${all.length} reviewed` : "\u00a0";
    at("bar").title = `${told[0]} accepted, ${told[1]} rejected, ${told[2]} unsure`;
  }

  function mark(one) {
    const marks = [];
    if (one.simulated) marks.push("Simulated data");
    if (one.random_weights) marks.push("Random weights: means nothing");
    if (one.outliers.length) marks.push(one.outliers.length === 1 ? "1 outlier" : `${one.outliers.length} outliers`);
    if (one.corrections) marks.push(one.corrections === 1 ? "Corrected once" : `Corrected ${one.corrections} times`);
    at("marks").replaceChildren(...marks.map((text) => make("span", { class: "rv-mark" }, text)));
  }

  const address = (picture) => (picture.small ? picture.url : `${picture.url}?convention=${at("convention").value}`);

  function picture(one) {
    const parts = one.pictures.map((each) => {
      const image = make("img", { src: address(each), alt: each.alt });
      image.addEventListener("error", () => image.replaceWith(make("p", {}, "This picture could not be drawn.")));
      return each.small
        ? make("figure", { class: "rv-tile" }, image, make("figcaption", {}, each.title))
        : make("div", { class: "rv-sheet", tabindex: "0", role: "region", "aria-label": "Contact sheet" }, image);
    });
    if (parts.length) at("pictures").replaceChildren(...parts);
    else say("There is no picture of this case; judge it by its captions and numbers.");
    at("captions").replaceChildren(...one.captions.flatMap((text) => [`“${text}”`, make("br")]));
  }

  function ahead(one) {
    for (const each of one?.pictures || []) new Image().src = address(each);
  }

  function tell(one) {
    const hidden = one.hidden === 1 ? "1 other view is" : `${one.hidden} other views are`;
    const views = one.others.flatMap((each) => [
      make("p", {}, make("strong", {}, each.reviewer), `: ${WORDS[each.verdict].toLowerCase()}`),
      ...(each.comment ? [make("blockquote", {}, each.comment)] : []),
    ]);
    if (!views.length) {
      const text = one.hidden ? `${hidden} hidden until you save yours.` : "Nobody else has reviewed this case.";
      views.push(make("p", { class: "vx-muted" }, text));
    }
    at("others").replaceChildren(...views);
  }

  function measure(one) {
    const far = new Map(one.outliers.map((each) => [`${each.name} ${each.label}`, each]));
    const rows = one.metrics.map((each) => {
      const apart = far.get(`${each.name} ${each.label}`);
      const name = `${each.name.replaceAll("_", " ")}${each.label ? `: ${each.label}` : ""}`;
      const value = `${Number(each.value.toPrecision(4))}${each.unit ? ` ${each.unit}` : ""}`;
      const told = apart ? ` (median ${Number(apart.median.toPrecision(4))}, z ${apart.z > 0 ? "+" : ""}${apart.z.toFixed(1)})` : "";
      return make("tr", { class: apart ? "rv-far" : null }, make("th", { scope: "row" }, name), make("td", {}, value + told));
    });
    at("numbers").replaceChildren(
      rows.length ? make("table", {}, make("tbody", {}, ...rows)) : make("p", { class: "vx-muted" }, "None."),
    );
  }

  function complain(problem) {
    const box = at("trouble");
    box.hidden = !problem;
    if (!problem) return box.replaceChildren();
    const meanwhile = problem.status === 412 ? " Reload the page to see what is there now." : "";
    box.replaceChildren(make("p", {}, `Found ${problem.found}; expected ${problem.expected}. ${problem.remedy}${meanwhile}`));
  }

  /* ---- what the person does ---- */

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest?.("input:not([type=checkbox]), select, textarea");
    if (field) {
      if (event.key === "Escape") field.blur();
      return;
    }
    const verdict = KEYS[event.key.toLowerCase()];
    if (verdict) save(verdict);
    else if (event.key.toLowerCase() === "c") at("comment").focus();
    else if (event.key === "ArrowRight") go(1);
    else if (event.key === "ArrowLeft") go(-1);
    else return;
    event.preventDefault();
  }

  function keepComment() {
    const one = current();
    if (one?.own && at("comment").value.trim() !== one.own.comment) {
      const onwards = at("onwards").checked;
      at("onwards").checked = false;
      save(one.own.verdict);
      saving = saving.then(() => { at("onwards").checked = onwards; });
    }
  }

  const start = () => load().catch((error) => {
    page.dataset.state = "failed";
    say("Nothing to review here.");
    complain(error.problem || { found: error.message, expected: "an answer of the server", remedy: "Try again." });
  });

  at("reviewer").value = parameters.get("reviewer") || author.get();
  at("reviewer").addEventListener("change", () => { author.set(reviewer()); saving = saving.then(start); });
  at("who").addEventListener("submit", (event) => { event.preventDefault(); at("reviewer").blur(); });
  at("filter").addEventListener("change", () => { filter(current()?.run); at("filter").blur(); });
  at("convention").value = localStorage.getItem("vx-convention") === "radiological" ? "radiological" : "neurological";
  at("convention").addEventListener("change", () => {
    localStorage.setItem("vx-convention", at("convention").value);
    at("convention").blur();
    draw();
  });
  at("comment").addEventListener("change", keepComment);
  at("back").addEventListener("click", () => go(-1));
  at("next").addEventListener("click", () => go(1));
  for (const button of buttons) button.addEventListener("click", () => save(button.dataset.verdict));
  document.addEventListener("keydown", key);
  if (reviewer()) author.set(reviewer());
  start();
})();
