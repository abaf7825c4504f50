/* Says by a notification of the browser that a job has ended, while this page is open, if a person wants that. */
"use strict";

(() => {
  const LOOK_MS = 3000;
  const SLACK_MS = 60000; // an end may be written down a little after another
  const ACTIVE = new Set(["queued", "running"]);
  const wanted = document.getElementById("wanted");
  const said = document.getElementById("said");
  let told = null; // jobs with their attempt whose end is known; null before the first look
  let since = 0; // when the last of them ended: what moves into the list and ended before is no news

  const able = "Notification" in window;
  const asked = () => localStorage.getItem("vx-notify") === "yes";

  function show() {
    wanted.disabled = !able || Notification.permission === "denied";
    wanted.checked = able && asked() && Notification.permission === "granted";
    if (!able) said.textContent = "This browser has no notifications.";
    else if (Notification.permission === "denied") said.textContent = "Blocked for this site: allow it in the settings of the browser.";
    else said.textContent = "";
  }

  async function look() {
    if (!wanted.checked) return;
    let jobs;
    try {
      jobs = (await vx.call("/jobs?limit=50")).items;
      said.textContent = "";
    } catch (error) {
      said.textContent = "The server does not answer; trying again.";
      return;
    }
    const over = jobs.filter((job) => !ACTIVE.has(job.status));
    if (told === null) since = Math.max(0, ...over.map(end));
    else over.filter((job) => !told.has(name(job)) && end(job) >= since - SLACK_MS).forEach(notify);
    told = new Set([...(told || []), ...over.map(name)]);
  }

  const name = (job) => `${job.id}-${job.attempt}`;
  const end = (job) => Date.parse(job.finished_at) || 0;

  function notify(job) {
    const failed = job.failed ? `, ${job.failed} failed` : "";
    // One for each job and attempt, however many pages are open.
    new Notification(`${job.recipe} on ${job.dataset}: ${job.status}`, {
      body: `${job.done} of ${job.total} done${failed}. ${job.notice}`,
      tag: name(job),
    });
  }

  wanted.addEventListener("change", async () => {
    if (wanted.checked && Notification.permission === "default") await Notification.requestPermission();
    localStorage.setItem("vx-notify", wanted.checked && Notification.permission === "granted" ? "yes" : "no");
    told = null;
    show();
    look();
  });

  show();
  look();
  setInterval(look, LOOK_MS);
})();
