// The conversations in this browser (IndexedDB). Each message is kept by itself, and each fact about a conversation, so
// tabs add to each other and overwrite nothing; what is deleted leaves a mark, so that no tab brings it back. Everything
// is only ever put, in one task, without reading before: so it is kept even if the page closes in this moment.
Glass.store = (() => {
  const { Tree } = Glass;
  const OLD = "glass-llama/chat/", OLD_TITLE = "glass-llama/title/"; // where earlier versions kept whole conversations
  const PURGE_SECONDS = 60; // as long what was deleted can come back
  const FACTS = ["title", "name", "updated", "system", "stop", "told_from"];

  // A browser may refuse its storage, to a page in a frame or in a private window: then things last as long as the page.
  function storage(name) {
    try {
      void window[name].length;
      return window[name];
    } catch {
      const map = new Map();
      return { getItem: (key) => map.get(key) ?? null, setItem: (key, value) => { map.set(key, String(value)); }, removeItem: (key) => { map.delete(key); } };
    }
  }
  const [kept, here] = ["localStorage", "sessionStorage"].map(storage);

  const result = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const within = (prefix) => IDBKeyRange.bound(prefix, [...prefix, []]); // an array comes after every text

  // Two tables, of messages by [chat, key] and of facts by [name, chat, ...]: `rows` and `changes` are [key, value].
  class Database {
    static async open() {
      const request = indexedDB.open("glass-llama", 1);
      request.onupgradeneeded = () => { for (const name of ["messages", "facts"]) request.result.createObjectStore(name); };
      const database = new Database();
      database.home = await result(request);
      database.home.onversionchange = () => database.home.close();
      return database;
    }
    put(changes) {
      return new Promise((resolve, reject) => {
        const transaction = this.home.transaction(["messages", "facts"], "readwrite");
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error);
        for (const [table, key, value] of changes) transaction.objectStore(table).put(value, key);
        transaction.commit();
      });
    }
    async rows(table, prefix) {
      const store = this.home.transaction(table).objectStore(table);
      const [keys, values] = await Promise.all([result(store.getAllKeys(within(prefix))), result(store.getAll(within(prefix)))]);
      return keys.map((key, place) => [key, values[place]]);
    }
    async remove(table, prefix) { await result(this.home.transaction(table, "readwrite").objectStore(table).delete(within(prefix))); }
  }

  class Memory {
    tables = { messages: new Map(), facts: new Map() };
    async put(changes) { for (const [table, key, value] of changes) this.tables[table].set(JSON.stringify(key), [key, structuredClone(value)]); }
    async rows(table, prefix) { return [...this.tables[table].values()].filter(([key]) => prefix.every((part, place) => key[place] === part)); }
    async remove(table, prefix) { for (const [key] of await this.rows(table, prefix)) this.tables[table].delete(JSON.stringify(key)); }
  }

  const channel = window.BroadcastChannel ? new BroadcastChannel("glass-llama") : { postMessage() {} };
  const store = {
    isForbidden: false, // nothing is kept after the page is closed
    // The list: newest first.
    async list() {
      await store.ready;
      const [gone, updated, titles, names] = await Promise.all(
        ["gone", "updated", "title", "name"].map(async (name) => new Map((await home.rows("facts", [name])).map(([[, id], value]) => [id, value]))));
      return [...updated].filter(([id]) => !gone.get(id)).map(([id, time]) => ({ id, updated: time, title: names.get(id) || titles.get(id) || "" }))
        .sort((a, b) => b.updated - a.updated);
    },
    async read(id) {
      await store.ready;
      if (!id || (await home.rows("facts", ["gone", id]))[0]?.[1]) return null;
      const tree = new Tree(id);
      await store.refresh(tree);
      const facts = await Promise.all(["name", "system", "stop", "told_from"].map(async (name) => [name, (await home.rows("facts", [name, id]))[0]?.[1] ?? ""]));
      tree.absorb([], [], Object.fromEntries(facts));
      return tree.nodes.length ? tree : null;
    },
    // What other tabs have added. Whether there is anything.
    async refresh(tree) {
      await store.ready;
      const [messages, shown] = await Promise.all([home.rows("messages", [tree.id]), home.rows("facts", ["shown", tree.id])]);
      return tree.absorb(messages.map(([, row]) => row), shown.map(([[, , parent], child]) => [parent, child]));
    },
    // Fails if the storage is full; then it is tried again with the next change.
    async write(tree) {
      if (!home) await store.ready;
      const { messages, shown, facts, taken } = tree.takeChanges(), { id } = tree;
      const changes = [...messages.map((row) => ["messages", [id, row.key], row]), ...shown.map(([parent, child]) => ["facts", ["shown", id, parent], child]),
        ...Object.entries({ ...facts, updated: Date.now() }).map(([name, value]) => ["facts", [name, id], value])];
      try {
        await home.put(changes);
      } catch (problem) {
        tree.giveBack(taken);
        throw problem;
      }
      store.tell({ chat: id, writing: tree.nodes.filter((node) => node.live).map((node) => node.key) });
    },
    async rename(id, name) {
      await home.put([["facts", ["name", id], name]]);
      store.tell({ chat: id });
    },
    async remove(id) {
      await home.put([["facts", ["gone", id], Date.now()]]);
      store.tell({ chat: id, gone: true });
    },
    async restore(id) {
      await home.put([["facts", ["gone", id], 0]]);
      store.tell({ chat: id });
    },
    tell(news) { channel.postMessage(news); },
    set onnews(hear) { channel.onmessage = ({ data }) => hear(data); },
    get current() { return here.getItem("glass-llama/current") ?? kept.getItem("glass-llama/current"); },
    set current(id) {
      for (const storage of [here, kept])
        try { storage.setItem("glass-llama/current", id || ""); } catch { /* full: the first page is empty next time */ }
    },
    // What stands in the message box of this tab, for the page that is loaded in it next.
    get draft() { return here.getItem("glass-llama/draft") || ""; },
    set draft(text) { try { here.setItem("glass-llama/draft", text); } catch { /* full */ } },
    setting(name, value) {
      if (value !== undefined) try { kept.setItem(`glass-llama/${name}`, value); } catch { /* full */ }
      return kept.getItem(`glass-llama/${name}`);
    },
  };

  let home = null;
  store.ready = (async () => {
    try {
      const database = await Database.open();
      await bringOver(database);
      home = database;
    } catch (problem) {
      console.warn("conversations are not kept:", problem);
      home = new Memory();
      store.isForbidden = true;
      await bringOver(home).catch(() => {});
    }
    purge();
  })();

  // What earlier versions kept, each time: one of them may still be open. The keys are always the same, so that twice is
  // the same as once. What cannot be read stays where it is.
  async function bringOver(home) {
    for (const name of Object.keys(kept).filter((key) => key.startsWith(OLD))) {
      const id = name.slice(OLD.length);
      let chat, title;
      try {
        [chat, title] = [JSON.parse(kept.getItem(name)), JSON.parse(kept.getItem(OLD_TITLE + id))];
        chat = Tree.from({ ...chat, id });
      } catch { continue; }
      const updated = title?.updated || Date.now();
      chat.nodes.forEach((node, number) => Object.assign(node, { key: `old${number}`, at: updated - chat.nodes.length + number }));
      const { messages, shown, facts } = chat.takeChanges();
      await home.put([...messages.map((row) => ["messages", [id, row.key], row]), ...shown.map(([parent, child]) => ["facts", ["shown", id, parent], child]),
        ...Object.entries({ ...facts, updated }).map(([fact, value]) => ["facts", [fact, id], value])]);
      if (home instanceof Database) for (const prefix of [OLD, OLD_TITLE]) kept.removeItem(prefix + id);
    }
  }

  // The words of what was deleted a while ago; that it was deleted stays known.
  async function purge() {
    for (const [[, id], time] of await home.rows("facts", ["gone"])) {
      if (!time || Date.now() - time < 1000 * PURGE_SECONDS) continue;
      await home.remove("messages", [id]);
      for (const name of [...FACTS, "shown"]) await home.remove("facts", [name, id]);
    }
  }
  setInterval(() => store.ready.then(purge), 1000 * PURGE_SECONDS);

  return store;
})();
