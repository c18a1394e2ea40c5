// One chat as one HTML file that opens without the app: the messages that are shown, with the tints and what else could
// have come. Nothing in it can run: it has no script, and its policy allows none.
Glass.pageFile = (() => {
  const { T, make, fill, percent, tint, textOf } = Glass;
  const POLICY = "default-src 'none'; style-src 'unsafe-inline'", MOST_OTHERS = 8;
  const STYLE = `
:root { color-scheme: light dark; --ink: #17212b; --soft: #4b5a68; --paper: #fff; --wash: #f4f6f8; --line: #d8dfe5; --accent: #0f766e;
  --t1: #e6f2e4; --t2: #fbf3cd; --t3: #fde3bd; --t4: #fbd0bd; --t5: #f9bcc0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf2; --soft: #a9b6c2; --paper: #10171e; --wash: #18212a; --line: #2c3844; --accent: #5fd0c3;
  --t1: #16301f; --t2: #3a3412; --t3: #4a2f10; --t4: #552416; --t5: #5c1a26; } }
body { margin: 0 auto; max-width: 46rem; padding: 1rem 1rem 16rem; background: var(--paper); color: var(--ink); font: 16px/1.7 system-ui, sans-serif; }
h1 { font-size: 1.3rem; line-height: 1.3; overflow-wrap: anywhere; } h2 { margin: 1.2rem 0 .2rem; font-size: .9rem; color: var(--soft); }
article { position: relative; } .said { white-space: pre-wrap; overflow-wrap: anywhere; }
.user .said, .system { padding: .5rem .9rem; border-radius: .8rem; background: var(--wash); } .about { color: var(--soft); font-size: .85rem; }
.tok { border-radius: .2rem; } .t1 { background: var(--t1); } .t2 { background: var(--t2); } .t3 { background: var(--t3); } .t4 { background: var(--t4); } .t5 { background: var(--t5); }
.forced { border-bottom: 2px solid var(--accent); } .tok[tabindex] { cursor: pointer; }
.tok:is(:hover, :focus) { outline: 2px solid var(--accent); }
.others { display: none; position: absolute; left: 0; z-index: 1; margin-top: 1.8em; padding: .5rem .8rem; min-width: 14rem; border: 1px solid var(--line); border-radius: .6rem;
  background: var(--paper); color: var(--ink); font-size: .88rem; line-height: 1.5; box-shadow: 0 8px 28px rgb(0 0 0 / .25); }
.tok:focus .others { display: grid; grid-template-columns: 1fr auto; gap: 0 1.5rem; } .others .own { font-weight: 700; }
@media print { .others { display: none !important; } }
`;

  function token([id, text, share, , others = [], forced]) {
    const rows = others.slice(0, MOST_OTHERS).flatMap(([other, words, part]) => {
      const own = other === id ? "own" : null;
      return [make("bdi", { class: own }, Glass.tokens.quoted(words)), make("span", { class: own }, percent(part))];
    });
    const title = forced ? T.forced : share === null ? null : percent(share), step = tint(share);
    return make("span", { class: `tok t${step}${forced ? " forced" : ""}`, title, tabindex: rows.length ? 0 : null }, text,
      rows.length ? make("span", { class: "others" }, ...rows) : null);
  }
  function message(node) {
    const isMine = node.role === "user", tokens = (node.tokens || []).filter(([, text]) => text);
    return make("article", { class: node.role }, make("h2", {}, isMine ? T.you : node.model || T.reply),
      make("div", { class: "said", dir: "auto" }, ...(tokens.length ? tokens.map(token) : [textOf(node)])),
      node.facts ? make("p", { class: "about" }, node.facts) : null);
  }

  return {
    // The text of the file. The browser's own serializer escapes all words.
    of(tree) {
      const title = tree.name || tree.title, messages = tree.path.map((number) => message(tree.nodes[number]));
      const head = make("head", {}, make("meta", { charset: "utf-8" }), make("meta", { "http-equiv": "Content-Security-Policy", content: POLICY }),
        make("meta", { name: "viewport", content: "width=device-width, initial-scale=1" }), make("title", {}, title), make("style", {}, STYLE));
      const body = make("body", {}, make("h1", { dir: "auto" }, title), make("p", { class: "about" }, fill(T.page_file_about, { app: T.app })),
        tree.system ? make("p", { class: "system said", dir: "auto" }, tree.system) : null, ...messages);
      return `<!doctype html>\n${make("html", { lang: document.documentElement.lang || "en" }, head, body).outerHTML}\n`;
    },
  };
})();
