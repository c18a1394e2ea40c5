// Paragraphs, headings, lists, quotes, tables, code and formulas of a parsed text, as elements.
Glass.Blocks = (() => {
  const { T, make } = Glass;
  const PARSED = /\\\(((?:(?!\\\)).)+)\\\)|\\\[((?:(?!\\\]|\n\n)[^])+)\\\]/g;

  class Blocks extends Glass.Inline {
    // The part of `source` from `base` to `end`; `spans` cuts texts into tokens.
    constructor(source, base, end, spans) {
      super();
      Object.assign(this, { source, base, spans, addresses: new Map(), drawing: this });
      this.tree = parsed(source.slice(base, end));
      this.written = source.slice(0, base) + this.tree.written;
      this.learn(this.tree);
    }
    get blocks() { return this.tree.children; }
    learn(node) {
      if (node.type === "definition" && !this.addresses.has(node.identifier)) this.addresses.set(node.identifier, node.url);
      for (const child of node.children || []) this.learn(child);
    }
    // `isFinal`: no words will be added to it.
    block(node, isFinal) { this.isFinal = isFinal; return this[`${node.type}Block`]?.(node) || this.one(node); }
    inside(node) { return node.children.flatMap((child) => this.block(child, this.isFinal)); }

    paragraphBlock(node) { return [make("p", { class: "lines", dir: "auto" }, ...this.all(node))]; }
    htmlBlock(node) { return [make("p", { class: "lines raw", dir: "auto" }, ...this.raw(node))]; }
    definitionBlock() { return []; }
    headingBlock(node) {
      const level = Math.min(6, node.depth + 2); // the page itself has the first two
      return [make("p", { class: "heading lines", role: "heading", "aria-level": level, "data-depth": node.depth, dir: "auto" }, ...this.all(node))];
    }
    thematicBreakBlock() { return [make("hr")]; }
    blockquoteBlock(node) { return [make("blockquote", { dir: "auto" }, ...this.inside(node))]; }
    listBlock(node) {
      const isLoose = node.spread || node.children.some((item) => item.spread);
      const items = node.children.map((item) => this.item(item, isLoose));
      return [make(node.ordered ? "ol" : "ul", { start: node.ordered && node.start !== 1 ? node.start : null, dir: "auto" }, ...items)];
    }
    item(node, isLoose) {
      const box = typeof node.checked !== "boolean" ? null :
        make("span", { class: "box", role: "img", "aria-label": node.checked ? T.task_done : T.task_open, "data-done": String(node.checked) });
      const inside = node.children.flatMap((child) => (child.type === "paragraph" && !isLoose ?
        [make("span", { class: "lines" }, ...this.all(child))] : this.block(child, this.isFinal)));
      return make("li", { dir: "auto", class: box ? "task" : null }, box, ...inside);
    }
    tableBlock({ children: [head, ...rows], align }) {
      const row = (kind, { children }) => make("tr", {}, ...children.map((cell, column) =>
        make(kind, { dir: "auto", style: align[column] ? `text-align:${align[column]}` : null }, ...this.all(cell))));
      const top = make("thead", {}, row("th", head)), body = rows.length ? make("tbody", {}, ...rows.map((cells) => row("td", cells))) : null;
      return [make("div", { class: "table", tabindex: 0 }, make("table", {}, top, body))];
    }
    codeBlock(node) {
      return [Glass.codeBlock(node, this.spans.text(node.value, this.codePlaces(node)), this.isFinal)];
    }
    codePlaces(node) {
      let [from, to] = this.span(node);
      if (/^(```|~~~)/.test(this.source.slice(from, from + 3))) from = Math.min(to, this.lineAfter(from, to));
      return Glass.offsets(node.value, this.source, from, to, true);
    }
    // What a block consists of, with a place in the source for each unit, if that is nothing but words. Code gets its
    // colours at its end, so then it is more.
    words(block, isFinal) {
      const [only, more] = block.children || [];
      if (block.type === "code" && !isFinal) return { kind: `code ${block.lang}`, value: block.value, offsets: this.codePlaces(block) };
      if (block.type !== "paragraph" || more || only?.type !== "text") return null;
      return { kind: "paragraph", value: only.value, offsets: Glass.offsets(only.value, this.source, ...this.span(only)) };
    }
    lineAfter(from, to) {
      const end = this.source.indexOf("\n", from);
      return end < 0 ? to : end + 1;
    }
    mathBlock(node) {
      const [from, to] = this.span(node);
      return [make("div", { class: "table", tabindex: 0 }, ...this.spans.whole(Glass.formula(node.value, this.source.slice(from, to), true), to))];
    }
  }

  // Models write formulas also as \(…\) and \[…\], which are the parser's $$…$$ with as many letters; not within code.
  function parsed(text) {
    const tree = VendoredMarkdown.parse(text), code = [];
    (function find(node) {
      if (/code/i.test(node.type)) code.push([node.position.start.offset, node.position.end.offset]);
      for (const child of node.children || []) find(child);
    })(tree);
    const written = text.replace(PARSED, (whole, line, lines, at) =>
      (!/\w/.test(whole) || code.some(([from, to]) => at < to && at + whole.length > from) ? whole : "$$" + (line ?? lines) + "$$"));
    return Object.assign(written === text ? tree : VendoredMarkdown.parse(written), { written });
  }

  return Blocks;
})();
