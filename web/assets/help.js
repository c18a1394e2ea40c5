// Keyboard shortcuts with their card, names for what Gradio draws without one, and the sidebars of a phone.
(() => {
  const { T, make, fill, store } = Glass;
  const press = (selector) => () => document.querySelector(selector)?.click();
  const version = (by) => () => {
    const rows = [...document.querySelectorAll(`#conversation .versions button:${by < 0 ? "first" : "last"}-of-type:not(:disabled)`)];
    rows.at(-1)?.click();
  };
  const KEYS = {
    "?": [T.key_help, () => card().showModal()],
    n: [T.key_new, press("#chats .new")],
    t: [T.key_tokens, () => Glass.colours.next()],
    r: [T.key_retry, () => [...document.querySelectorAll("#conversation .assistant footer button[aria-label]")].filter((b) => b.ariaLabel === T.retry).at(-1)?.click()],
    m: [T.key_map, () => Glass.map.open()],
    "[": [T.key_earlier, version(-1)],
    "]": [T.key_later, version(1)],
  };
  const toWords = () => [...document.querySelectorAll('#conversation .tok[tabindex="0"]')].at(-1);
  const FIXED = [["a … z", T.key_any], ["↑", T.key_token], ["Esc", T.key_box], ["Enter", T.key_send], ["Shift+Enter", T.key_line], ["Esc", T.key_stop], ["← →", T.key_walk], ["Enter, ↓", T.key_open], ["Enter", T.key_branch]];

  let dialog;
  function card() {
    if (dialog) return dialog;
    const rows = [...Object.entries(KEYS).map(([key, [words]]) => [key, words]), ...FIXED];
    const on = make("input", { type: "checkbox", id: "single-keys", onchange: () => store.setting("keys", on.checked ? "on" : "off") });
    on.checked = store.setting("keys") !== "off";
    dialog = make("dialog", { id: "help", "aria-labelledby": "help-title" },
      make("h2", { id: "help-title" }, T.help), make("dl", {}, ...rows.flatMap(([key, words]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, words)])),
      make("label", { for: "single-keys" }, on, " ", T.single_keys),
      make("form", { method: "dialog" }, Glass.button(T.close, "", () => dialog.close(), { class: "primary" })));
    document.body.append(dialog);
    return dialog;
  }

  // Typing always writes: a letter that no field takes goes to the message box, and single keys do something only while
  // a word has the focus.
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || Glass.composes(event)) return;
    const { target, key } = event, onWord = target.matches?.(".tok"), box = document.querySelector("#message textarea");
    if (key === "Escape") {
      if (onWord) Glass.composer.focus();
      else if (!dialog?.open && !Glass.uncover()) document.querySelector("#message .stop-button")?.click();
    } else if (key === "ArrowUp" && target === box && !box.value && toWords()) {
      event.preventDefault();
      toWords().focus();
    } else if (onWord && KEYS[key] && store.setting("keys") !== "off") {
      event.preventDefault();
      KEYS[key][1]();
    } else if (key.length === 1 && !target.closest?.("input, textarea, select, [contenteditable], dialog, [role=listbox], [role=combobox]")) {
      const presses = key === " " && target.closest?.("button, [role=button], [role=tab], summary, a");
      if (!presses && box?.checkVisibility()) box.focus(); // before the letter is written
    }
  });

  // Gradio opens a list again when Tab leaves it, over what has the focus then: it is not told of Tab.
  addEventListener("keydown", (event) => {
    if (event.key === "Tab" && event.target.matches?.("[role=listbox], [role=combobox]")) event.stopPropagation();
  }, true);

  // Gradio draws Send, Stop and the sidebars' toggles without a name that a screen reader could say, again whenever
  // they swap; its tab panels and number boxes likewise.
  const NAMES = { ".submit-button": T.send, ".stop-button": T.stop, "#settings .toggle-button": T.settings, "#library .toggle-button": T.chats };
  const repair = () => {
    for (const [selector, name] of Object.entries(NAMES))
      for (const button of document.querySelectorAll(selector)) if (button.ariaLabel !== name) button.ariaLabel = name;
    for (const button of document.querySelectorAll(".reset-button")) {
      const label = button.closest(".block")?.querySelector("[data-testid=block-info]")?.textContent.trim();
      if (label && button.ariaLabel !== `${T.reset} ${label}`) button.ariaLabel = `${T.reset} ${label}`;
    }
    // Gradio says these in English, whichever language is chosen.
    for (const [english, words] of [["number input for ", T.number_input], ["range slider for ", T.range_slider]])
      if (words !== `${english}{label}`)
        for (const input of document.querySelectorAll(`input[aria-label^="${english}"]`)) input.ariaLabel = fill(words, { label: input.ariaLabel.slice(english.length) });
    for (const toggle of document.querySelectorAll(".sidebar .toggle-button")) {
      const open = String(toggle.parentElement.classList.contains("open"));
      if (toggle.ariaExpanded !== open) toggle.ariaExpanded = open;
    }
  };
  new MutationObserver(repair).observe(document, { childList: true, subtree: true, attributeFilter: ["class"] });

  // On a phone an open sidebar covers the conversation. Whether there was one to close.
  Glass.uncover = () => {
    const open = innerWidth < 768 ? document.querySelector(".sidebar.open .toggle-button") : null;
    open?.click();
    open?.focus();
    return Boolean(open);
  };
  Glass.help = () => card().showModal();
})();
