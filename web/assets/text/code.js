// A block of code: its language, a button that copies it, and colours from a highlighter that comes when it is needed.
Glass.codeBlock = (() => {
  const { T, make } = Glass;

  // `painted` are its nodes, cut into tokens.
  return function codeBlock({ value, lang }, painted, isSettled) {
    const code = make("code", {}, ...painted);
    const bar = make("div", { class: "bar" }, make("span", { class: "language" }, lang || T.code),
      Glass.button(T.copy_code, "copy", () => Glass.copy(code.textContent)));
    if (isSettled && lang) highlight(code, value, lang);
    return make("div", { class: "code", dir: "ltr" }, bar, make("pre", { tabindex: 0 }, code));
  };

  async function highlight(code, value, lang) {
    const highlighter = (await Glass.lazy("highlight", "VendoredHighlight"))?.default;
    const language = lang.toLowerCase();
    if (!highlighter?.getLanguage(language) || value.length > 50_000) return;
    colour(code, highlighter.highlight(value, { language, ignoreIllegals: true })._emitter.rootNode);
  }

  // The highlighter's tree laid over the spans that are there: each gets the colour of its place, and keeps what it is.
  function colour(code, tree) {
    const scopes = []; // of each character
    (function walk(node, scope) {
      if (typeof node === "string") for (const _ of node.split("")) scopes.push(scope);
      else for (const child of node.children) walk(child, node.scope || scope);
    })(tree, "");
    let at = 0;
    const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT), texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts) {
      const parts = [];
      for (let from = 0; from < text.data.length;) {
        let to = from + 1;
        while (to < text.data.length && scopes[at + to] === scopes[at + from]) to++;
        const words = text.data.slice(from, to), scope = scopes[at + from];
        parts.push(scope ? make("i", { class: `c-${scope.split(".")[0]}` }, words) : words);
        from = to;
      }
      at += text.data.length;
      text.replaceWith(...parts);
    }
  }
})();
