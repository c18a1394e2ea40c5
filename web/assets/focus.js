// The focus is never lost: when what has it leaves the page, is hidden or switched off, a control near it has it. Not where
// a finger points, and a field with the focus would open a keyboard.
(() => {
  const CONTROLS = "button, input, textarea, select, summary", isTouch = matchMedia("(pointer: coarse)").matches;
  let chain = []; // what has the focus, and all around it

  const isThere = (element) => element.isConnected && !element.matches(":disabled") && element.checkVisibility({ visibilityProperty: true });
  function look() {
    const [last, ...around] = chain;
    if (document.activeElement !== document.body || !last || isTouch) return;
    chain = [];
    if (isThere(last)) return; // a click beside everything
    for (const home of around) {
      const near = [...home.querySelectorAll(CONTROLS)].find((element) => isThere(element) && element.tabIndex >= 0);
      if (near) { near.focus(); return; }
    }
    Glass.composer.focus();
  }

  addEventListener("focusin", ({ target }) => {
    chain = [];
    for (let element = target; element && element !== document.body; element = element.parentElement) chain.push(element);
  });
  addEventListener("focusout", () => setTimeout(look));
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
})();
