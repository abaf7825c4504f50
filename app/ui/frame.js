/* A table that is wider than the screen scrolls: let the keyboard reach it too. Streamlit gives it no place in the order of Tab. */
(() => {
  if (window.vxReach) return; // once a page, however often the script of the page runs
  let due = false;
  const reach = () => {
    due = false;
    for (const box of document.querySelectorAll('[data-testid="stTable"], [data-testid="stTable"] div')) {
      const scrolls = box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible";
      if (scrolls === box.hasAttribute("tabindex")) continue;
      if (scrolls) {
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", "Table, scrolls sideways");
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
      }
    }
  };
  window.vxReach = () => {
    if (!due) requestAnimationFrame(reach);
    due = true;
  };
  new MutationObserver(window.vxReach).observe(document.body, { childList: true, subtree: true });
  window.addEventListener("resize", window.vxReach);
  window.vxReach();
})();
