// The list of conversations in this browser, and what can be done with them.
Glass.chats = (() => {
  const { T, make, button, fill, store } = Glass;
  let home, list, asked = null;

  function row(chat) {
    const current = chat.id === Glass.chat?.chat.id;
    const open = make("button", {
      type: "button", class: "open", "aria-current": current ? "page" : null, onclick: () => show(store.read(chat.id)),
    }, chat.title || T.untitled);
    const remove = asked === chat.id ? make("span", { class: "sure", role: "group", "aria-label": T.delete_sure }, T.delete_sure,
      button(T.delete_yes, "", () => drop(chat.id), { class: "yes" }), button(T.cancel, "", () => ask(null))) :
      button(fill(T.delete_chat, { title: chat.title || T.untitled }), "remove", () => ask(chat.id), { class: "delete" });
    return make("li", { "data-chat": chat.id }, open, remove);
  }

  function show(chat) {
    Glass.chat.leave(chat);
    Glass.uncover();
  }

  function ask(id) {
    const before = asked;
    asked = id;
    draw();
    list.querySelector(id ? ".sure .yes" : `[data-chat="${before}"] .delete`)?.focus();
  }

  function drop(id) {
    store.remove(id);
    asked = null;
    if (id === Glass.chat.chat.id) {
      Glass.chat.chat = { nodes: [], selected: {}, revision: 0 };
      Glass.chat.leave(null);
    }
    draw();
    home.querySelector(".new").focus();
  }

  function draw() {
    if (!list) return;
    const chats = store.list();
    list.replaceChildren(...(chats.length ? chats.map(row) : [make("li", { class: "none" }, T.no_chats)]));
  }

  async function take(event, trigger) {
    const [file] = event.target.files;
    event.target.value = "";
    if (file && file.size > 16e6) Glass.chat.warn(T.import_large);
    else if (file) trigger("act", { do: "import", text: await file.text() });
  }

  return {
    draw,
    mount(element, trigger) {
      home = element;
      list = make("ul");
      const file = make("input", { type: "file", accept: ".json,application/json", class: "unseen", tabindex: -1, "aria-hidden": "true", onchange: (event) => take(event, trigger) });
      const exported = (what) => () => (Glass.chat.chat.id ? trigger("act", { do: what }) : Glass.say(T.no_chats));
      element.append(
        button(T.new_chat, "", () => { show(null); document.querySelector("#message textarea").focus(); }, { class: "new" }),
        make("nav", { "aria-label": T.chats }, list),
        make("div", { class: "files" }, button(T.import, "", () => file.click()), button(T.export_json, "", exported("json")),
          button(T.export_markdown, "", exported("markdown"))), file);
      addEventListener("storage", draw);
      draw();
    },
    // What the server sends for the page to do: a file to save, a conversation to open.
    receive(text) {
      if (!text) return;
      const { file, name, open } = JSON.parse(text);
      if (file !== undefined) Glass.download(name, file);
      if (open) { show(open); Glass.chat.save(); draw(); }
    },
  };
})();
