/* Says by a notification of the browser that a job has ended, while this page is open, if a person wants that. */
"use strict";

(() => {
  const LOOK_MS = 3000;
  const ACTIVE = new Set(["queued", "running"]);
  const wanted = document.getElementById("wanted");
  const said = document.getElementById("said");
  let moving = null; // ids of jobs that were not over at the last look; null before the first

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
    if (moving !== null) jobs.filter((job) => moving.has(job.id) && !ACTIVE.has(job.status)).forEach(notify);
    moving = new Set(jobs.filter((job) => ACTIVE.has(job.status)).map((job) => job.id));
  }

  function notify(job) {
    const failed = job.failed ? `, ${job.failed} failed` : "";
    // One for each job and attempt, however many pages are open.
    new Notification(`${job.recipe} on ${job.dataset}: ${job.status}`, {
      body: `${job.done} of ${job.total} done${failed}. ${job.notice}`,
      tag: `${job.id}-${job.attempt}`,
    });
  }

  wanted.addEventListener("change", async () => {
    if (wanted.checked && Notification.permission === "default") await Notification.requestPermission();
    localStorage.setItem("vx-notify", wanted.checked && Notification.permission === "granted" ? "yes" : "no");
    moving = null;
    show();
    look();
  });

  show();
  look();
  setInterval(look, LOOK_MS);
})();
