// What the scripts of the page share: the table of sentences, making elements, saying things to screen readers, and the
// conversations in this browser. Text enters the page as text alone: nothing here sets innerHTML.
window.Glass = (() => {
  const T = window.GLASS_TEXT;
  const PREFIX = "glass-llama/chat/", TITLE = "glass-llama/title/";

  // make("button", {class: "x", onclick: f}, "words", child)
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const PICTURES = {
    copy: "M5.5 5.5V2.5h8v8h-3M2.5 5.5h8v8h-8z", edit: "M2.5 13.5l.7-3 8-8 2.3 2.3-8 8z", undo: "M6 3L3 6l3 3M3 6h6.5a3.5 3.5 0 010 7H6",
    retry: "M13 8a5 5 0 11-1.5-3.5L13 6M13 2.5V6H9.5", earlier: "M10 3L5 8l5 5", later: "M6 3l5 5-5 5", remove: "M4 4l8 8M12 4l-8 8",
  };
  function picture(name) {
    const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", PICTURES[name]);
    svg.append(path);
    return svg;
  }

  // With a picture the name is for screen readers and the pointer.
  const button = (name, icon, onclick, attributes = {}) =>
    make("button", { type: "button", "aria-label": icon ? name : null, title: icon ? name : null, onclick, ...attributes },
      PICTURES[icon] ? picture(icon) : icon || name);

  const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const percent = (share) => (share === null || share === undefined ? "" :
    share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`);

  let region;
  function say(words) {
    if (!region) document.body.append(region = make("div", { id: "announcer", "aria-live": "polite", role: "status", class: "unseen" }));
    region.textContent = "";
    setTimeout(() => { region.textContent = words; }, 60);
  }

  // That the engine gets ready is said when it begins and when it ends, not at each program.
  function followState(element, watch) {
    let waits = false;
    const look = () => {
      const now = element.querySelector(".progress") ? T.getting_ready : element.textContent.trim();
      if (now !== (waits ? T.ready : T.getting_ready)) return;
      say(now);
      waits = !waits;
    };
    watch("value", () => setTimeout(look));
  }

  // A browser may refuse its storage to a page in a frame: then things are kept as long as the page is open.
  function storage(name) {
    try {
      void window[name].length;
      return window[name];
    } catch {
      const map = new Map();
      return {
        getItem: (key) => map.get(key) ?? null, setItem: (key, value) => { map.set(key, String(value)); },
        removeItem: (key) => { map.delete(key); }, get names() { return [...map.keys()]; },
      };
    }
  }

  // One entry a conversation, so that two tabs never overwrite each other's, and a small one with its title for the list.
  const [kept, here] = ["localStorage", "sessionStorage"].map(storage);
  const keys = (prefix) => (kept.names || Object.keys(kept)).filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
  const parse = (key) => { try { return JSON.parse(kept.getItem(key)); } catch { return null; } };
  const store = {
    read(id) {
      const chat = id && parse(PREFIX + id);
      return chat && Array.isArray(chat.nodes) ? chat : null;
    },
    list() {
      const found = keys(PREFIX).map((id) => ({ id, title: "", updated: 0, ...parse(TITLE + id) }));
      return found.sort((a, b) => b.updated - a.updated);
    },
    // False when the browser's storage is full even without the token records of older replies.
    write(chat) {
      const first = chat.nodes.find((node) => node.role === "user");
      const title = { title: (first ? textOf(first) : "").trim().slice(0, 60), updated: Date.now() };
      for (let older = null; ;) {
        try {
          kept.setItem(PREFIX + chat.id, JSON.stringify(chat));
          kept.setItem(TITLE + chat.id, JSON.stringify(title));
          return true;
        } catch {
          older = older || store.list().reverse().map((row) => row.id).filter((id) => id !== chat.id);
          if (!older.length) break;
          const oldest = store.read(older.shift());
          if (oldest) kept.setItem(PREFIX + oldest.id, JSON.stringify({ ...oldest, nodes: oldest.nodes.map(lighten) }));
        }
      }
      try {
        kept.setItem(PREFIX + chat.id, JSON.stringify({ ...chat, nodes: chat.nodes.map(lighten) }));
        return true;
      } catch { return false; }
    },
    remove(id) { for (const prefix of [PREFIX, TITLE]) kept.removeItem(prefix + id); },
    get current() { return here.getItem("glass-llama/current") ?? kept.getItem("glass-llama/current"); },
    set current(id) {
      for (const storage of [here, kept])
        try { storage.setItem("glass-llama/current", id || ""); } catch { /* full: the first chat of the list is opened next time */ }
    },
    setting(name, value) {
      if (value !== undefined) try { kept.setItem(`glass-llama/${name}`, value); } catch { /* full */ }
      return kept.getItem(`glass-llama/${name}`);
    },
  };

  const textOf = (node) => (node.tokens && node.tokens.length ? node.tokens.map((token) => token[1]).join("") : node.words || "");

  // A reply without its token records: the words stay.
  function lighten(node) {
    const { tokens, marks, ...rest } = node;
    return tokens ? { ...rest, words: textOf(node) } : node;
  }

  function download(name, text) {
    const link = make("a", { href: URL.createObjectURL(new Blob([text])), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      say(T.copied);
    } catch {
      const box = make("textarea", { class: "unseen" });
      box.value = text;
      document.body.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
      say(T.copied);
    }
  }

  return { T, make, button, fill, percent, say, followState, store, textOf, download, copy };
})();
