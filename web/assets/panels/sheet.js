// The sheet of models under the chip in the header: a popover of the browser's own, which lies over everything, closes at
// Escape and at a click beside it, and gives the focus back.
Glass.sheet = (() => {
  const { T, button } = Glass;
  const chip = () => document.querySelector("#model-chip");
  let sheet;

  function place() {
    const at = chip().getBoundingClientRect();
    sheet.style.setProperty("--left", `${Math.max(8, Math.min(at.left, innerWidth - sheet.offsetWidth - 8))}px`);
    sheet.style.setProperty("--top", `${at.bottom + 6}px`);
  }

  function open() {
    sheet.showPopover();
    place();
    const field = sheet.querySelector("#model-name textarea, #model-name input");
    if (field && matchMedia("(hover: hover)").matches) field.focus();
    else sheet.querySelector(".close").focus();
  }

  // Gradio may draw it after the sheet.
  function name() {
    if (!chip()) { setTimeout(name, 50); return; }
    chip().setAttribute("aria-haspopup", "dialog");
    chip().setAttribute("aria-expanded", "false");
  }

  return {
    open,
    mount(element) {
      sheet = element.closest("#model-sheet");
      sheet.setAttribute("popover", "auto");
      sheet.setAttribute("role", "dialog");
      sheet.setAttribute("aria-label", T.models);
      const close = button(T.close, "remove", () => sheet.hidePopover(), { class: "close" });
      sheet.prepend(close);
      sheet.addEventListener("toggle", ({ newState }) => chip().setAttribute("aria-expanded", newState === "open"));
      name();
      // Escape closes the sheet, wherever the focus is, and does not also stop the reply (help.js).
      addEventListener("keydown", (event) => {
        if (event.key !== "Escape" || !sheet.matches(":popover-open")) return;
        event.stopPropagation();
        sheet.hidePopover();
        chip().focus();
      }, true);
      addEventListener("resize", () => { if (sheet.matches(":popover-open")) place(); });
    },
  };
})();
