// The list of conversations in this browser, and what can be done with them.
Glass.chats = (() => {
  const { T, make, button, fill, store } = Glass;
  const DAY = 86_400_000, MOST_BYTES = 16e6;
  let home, list, search, renaming = null, drawn = 0;

  const nameOf = (chat) => chat.title || T.untitled;
  function groupOf({ updated }) {
    const days = Math.floor((new Date().setHours(24, 0, 0, 0) - updated) / DAY);
    return days < 1 ? T.today : days < 2 ? T.yesterday : days < 8 ? T.week : T.older;
  }

  function row(chat) {
    const current = chat.id === Glass.chat?.chat.id, title = nameOf(chat);
    if (renaming === chat.id) return make("li", { "data-chat": chat.id }, nameBox(chat));
    const open = make("button", { type: "button", class: "open", title, "aria-current": current ? "page" : null, onclick: () => show(chat.id) }, title);
    return make("li", { "data-chat": chat.id }, open,
      button(fill(T.rename_chat, { title }), "edit", () => rename(chat.id), { class: "rename" }),
      button(fill(T.delete_chat, { title }), "remove", () => remove(chat.id, title), { class: "delete" }));
  }
  function nameBox({ id, title }) {
    const box = make("input", { type: "text", value: title, "aria-label": T.renamed, maxlength: 80 });
    box.addEventListener("keydown", (event) => {
      if (Glass.composes(event)) return;
      if (event.key === "Enter") named(id, box.value);
      else if (event.key === "Escape") named(id);
      event.stopPropagation();
    });
    box.addEventListener("blur", () => { if (renaming === id) named(id, box.value); });
    return box;
  }
  async function rename(id) {
    renaming = id;
    await draw();
    list.querySelector("li input")?.select();
  }
  async function named(id, name) {
    renaming = null;
    if (name?.trim()) await store.rename(id, name.trim());
    if (id === Glass.chat.chat.id && name?.trim()) Glass.chat.rename(name.trim());
    await draw();
    list.querySelector(`[data-chat="${id}"] .rename`)?.focus();
  }

  async function show(id) {
    Glass.uncover(); // at once: what is clicked while the chat is read finds the sidebar as it will be
    const written = Glass.chat.replies.tree(id); // of a reply under way the storage has not all words
    Glass.chat.leave(id ? written || await store.read(id) : null);
  }
  async function remove(id, title) {
    await store.remove(id);
    if (id === Glass.chat.chat.id) Glass.chat.forget();
    await draw();
    home.querySelector(".new").focus();
    Glass.toasts.withWayBack(fill(T.deleted, { title }), async () => {
      await store.restore(id);
      await show(id);
      await draw();
    });
  }

  async function draw() {
    if (!list) return;
    const turn = ++drawn, wanted = search.value.trim().toLowerCase(), all = await store.list();
    const chats = all.filter((chat) => nameOf(chat).toLowerCase().includes(wanted));
    if (turn !== drawn) return; // a newer list is on its way
    search.hidden = all.length < 2;
    const rows = [];
    let group;
    for (const chat of chats) {
      if (groupOf(chat) !== group) rows.push(make("li", { class: "group" }, make("h3", {}, group = groupOf(chat))));
      rows.push(row(chat));
    }
    const at = list.contains(document.activeElement) ? document.activeElement : null;
    const focused = at && `[data-chat="${at.closest("li").dataset.chat}"] ${[at.localName, ...at.classList].join(".")}`;
    list.replaceChildren(...(rows.length ? rows : [make("li", { class: "none" }, all.length ? T.no_match : T.no_chats)]));
    if (focused) list.querySelector(focused)?.focus();
  }

  const fileName = (tree, ending) => {
    const words = (tree.name || tree.title).normalize("NFKD").toLowerCase().match(/[a-z0-9]+/g) || ["conversation"];
    return `${words.slice(0, 6).join("-").slice(0, 60)}.${ending}`;
  };
  function exportJson() { withChat((tree) => Glass.download(fileName(tree, "json"), JSON.stringify(tree.toFile()))); }
  function exportPage() { withChat((tree) => Glass.download(fileName(tree, "html"), Glass.pageFile.of(tree))); }
  function exportMarkdown() {
    withChat((tree) => {
      const parts = tree.system ? [tree.system.split("\n").map((line) => `> ${line}`).join("\n")] : [];
      for (const number of tree.path) {
        const node = tree.nodes[number], name = node.role === "user" ? T.you : node.model || T.reply;
        parts.push(`**${name}:**\n\n${Glass.textOf(node).trim() || "…"}`);
      }
      Glass.download(fileName(tree, "md"), `${parts.join("\n\n")}\n`);
    });
  }
  async function exportAll() {
    const trees = (await Promise.all((await store.list()).map(({ id }) => store.read(id)))).filter(Boolean);
    if (trees.length) Glass.download("glass-llama-chats.json", JSON.stringify({ format: "glass-llama/chats/1", chats: trees.map((tree) => tree.toFile()) }));
    else Glass.toasts.say(T.no_chats);
  }
  const withChat = (act) => (Glass.chat.chat.nodes.length ? act(Glass.chat.chat) : Glass.toasts.say(T.no_chats));

  async function take(event) {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    try {
      if (file.size > MOST_BYTES) throw new Error(T.import_large);
      await keep(Glass.files.read(await file.text()));
    } catch (problem) { Glass.status.problem(problem.message); }
  }
  // All are kept, and the first is shown.
  async function keep(trees) {
    for (const tree of trees.slice(1).reverse()) await Glass.chat.save(tree);
    Glass.chat.leave(trees[0]);
    await Glass.chat.save();
    if (trees.length > 1) Glass.toasts.say(fill(T.imported, { count: trees.length }));
  }

  return {
    draw,
    mount(element) {
      home = element;
      list = make("ul");
      search = make("input", { type: "search", class: "search", placeholder: T.search_chats, "aria-label": T.search_chats, hidden: true, oninput: draw });
      const file = make("input", { type: "file", accept: ".json,.jsonl,application/json", class: "unseen", tabindex: -1, "aria-hidden": "true", onchange: take });
      element.append(
        button(T.new_chat, "", () => { show(null); }, { class: "new" }), search,
        make("nav", { "aria-label": T.chats }, list),
        make("div", { class: "files" }, button(T.import, "", () => file.click()), button(T.export_json, "", exportJson),
          button(T.export_markdown, "", exportMarkdown), button(T.export_page, "", exportPage), button(T.export_all, "", exportAll)), Glass.theme.control(), Glass.language.control(), file);
      draw();
    },
  };
})();
