// The panel of the word that was clicked: its alternatives in the right sidebar, on a phone a sheet at the foot. Python
// draws them (plots.py) from the logits of that one place; here are the keys, and what choosing one of them does.
Glass.word = (() => {
  let home, from = null, wantsFocus = false;
  const sidebar = () => document.querySelector("#settings");
  const toggle = () => sidebar()?.querySelector(".toggle-button");
  const buttons = () => [...home.querySelectorAll(".odds button")];

  // `target` is the token on the page, `byKey` whether the focus goes into the panel.
  function open(target, byKey) {
    from?.classList.remove("chosen");
    from = target;
    target.classList.add("chosen");
    wantsFocus = byKey;
    document.documentElement.classList.add("word-open");
    if (!sidebar().classList.contains("open")) toggle().click();
    sidebar().querySelector(".sidebar-content").scrollTop = 0;
  }

  function drawn() {
    if (innerWidth < 768) from?.scrollIntoView({ block: "nearest" }); // above the sheet, which covers half of the screen
    if (!wantsFocus || !buttons().length) return;
    wantsFocus = false;
    buttons()[0].focus();
  }

  function back() {
    const target = from;
    from?.classList.remove("chosen");
    if (innerWidth < 768) toggle().click();
    if (target?.isConnected) target.focus();
  }

  function choose({ target }) {
    const row = target.closest(".odds button");
    if (!row) return;
    const { index } = row.closest(".odds").dataset, { node } = from.closest("[data-node]").dataset;
    const isCurrent = row.hasAttribute("aria-current");
    if (isCurrent || innerWidth < 768) back();
    if (!isCurrent) Glass.chat.act({ do: "branch", node: Number(node), index: Number(index), id: Number(row.dataset.id) });
  }

  function key(event) {
    const rows = buttons(), at = rows.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (at >= 0 && to !== undefined) rows[(to + rows.length) % rows.length].focus();
    else if (event.key === "Escape") back();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  return {
    open,
    get isOpen() { return document.documentElement.classList.contains("word-open") && sidebar().classList.contains("open"); },
    // What is below the alternatives: layers and attention.
    get isUnfolded() { return Boolean(document.querySelector("#inside .label-wrap.open")); },
    mount(element, watch) {
      home = element;
      element.addEventListener("click", choose);
      element.addEventListener("keydown", key);
      watch("value", () => setTimeout(drawn));
    },
  };
})();
