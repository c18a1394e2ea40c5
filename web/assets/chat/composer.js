// The message box: typing anywhere writes in it, what is in it stays until it was sent, and a text file can be put into it.
Glass.composer = (() => {
  const { T, composes } = Glass;
  const FILES = [".txt", ".md", ".json", ".py"], MOST_BYTES = 400_000;
  const box = () => document.querySelector("#message textarea");
  const isTouch = matchMedia("(pointer: coarse)").matches; // where the focus would open a keyboard over the page

  const file = Glass.make("input", { type: "file", multiple: true, accept: FILES.join(), class: "unseen", tabindex: -1, "aria-hidden": "true", onchange: async () => {
    await attach([...file.files]);
    file.value = "";
  } });
  Glass.whenThere(() => document.body.append(file));

  function put(text) {
    const field = box();
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // Send can be pressed when there is something to send.
  function look() {
    const send = document.querySelector("#message .submit-button"), isEmpty = !box()?.value.trim() && !Glass.chat?.canGoOn;
    if (send && send.disabled !== isEmpty) send.disabled = isEmpty;
    const row = document.querySelector("#message .input-container");
    // After the field in the page: all of it is in a label, which is that of the first control in it.
    if (row && !row.querySelector(".attach")) box().after(Glass.button(T.attach, "attach", () => file.click(), { class: "attach" }));
    if (row && !row.querySelector(".sides-button")) row.querySelector(".attach").after(Glass.button(T.sides, "sides", () => Glass.chat.sides.toggle(), { class: "attach sides-button" }));
    const sides = row?.querySelector(".sides-button"), isOpen = String(Boolean(Glass.chat?.sides.isOpen));
    if (sides && sides.ariaExpanded !== isOpen) sides.ariaExpanded = isOpen;
    const hint = !Glass.chat?.isText ? T.message_hint : Glass.chat.chat.path.length ? T.text_hint : T.text_begin;
    if (box() && box().placeholder !== hint) box().placeholder = hint;
    if (box() && box().enterKeyHint !== "send") box().enterKeyHint = "send";
  }

  async function attach(files) {
    for (const file of files) {
      const isText = FILES.some((ending) => file.name.toLowerCase().endsWith(ending)) && file.size <= MOST_BYTES;
      const text = isText ? await file.text() : "", { value } = box();
      if (!isText || /[\0\ufffd]/.test(text)) { Glass.toasts.say(T.file_refused); continue; } // a picture by another name
      const longest = Math.max(2, ...(text.match(/`+/g) || []).map((ticks) => ticks.length)), fence = "`".repeat(longest + 1);
      put(`${value ? `${value.trimEnd()}\n\n` : ""}${file.name}:\n${fence}\n${text.trimEnd()}\n${fence}\n`);
    }
    box().focus();
  }

  // While two replies are wanted, sending asks for both; nothing sent to a text lets the model go on with it.
  function isTaken(event) {
    const { sides, canGoOn } = Glass.chat || {}, isForSides = sides?.isWaiting;
    if (!isForSides && !(canGoOn && !box().value.trim())) return false;
    event.preventDefault();
    event.stopPropagation();
    if (isForSides) sides.begin();
    else Glass.chat.goOn();
    return true;
  }

  addEventListener("keydown", (event) => {
    if (event.target !== box() || event.key !== "Enter" || event.shiftKey || composes(event)) return;
    if (isTaken(event)) return;
    if (Glass.chat?.busy || !box().value.trim()) event.preventDefault(); // the words stay
  }, true);
  addEventListener("click", (event) => { if (event.target.closest?.("#message .submit-button")) isTaken(event); }, true);
  addEventListener("input", (event) => { if (event.target === box()) look(); });
  new MutationObserver(look).observe(document, { childList: true, subtree: true });

  // A page that is loaded again, also in another language, has the words that were not sent.
  for (const left of ["pagehide", "visibilitychange"]) addEventListener(left, () => { if (box()) Glass.store.draft = box().value; });

  addEventListener("dragover", (event) => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    attach(event.dataTransfer.files);
  });

  return {
    get text() { return box().value; },
    restore() { if (Glass.store.draft) this.put(Glass.store.draft); },
    put(text) {
      put([text, box().value].filter(Boolean).join("\n"));
      this.focus();
    },
    // It stands in the conversation now; what was typed since stays.
    sent(text) { if (box().value.trim() === text) put(""); },
    focus() { if (!isTouch) box()?.focus(); },
  };
})();
