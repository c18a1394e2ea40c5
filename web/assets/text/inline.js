// What stands within a line, as nodes: emphasis, code, links, formulas. Links and pictures are text and lead nowhere.
Glass.Inline = (() => {
  const { T, make } = Glass;

  // A dollar sign is money unless it stands as in "$x$": no space inside, no digit after.
  const isFormula = (source) => !/^\$(?!\$)/.test(source) || /^\$\S(.*\S)?\$$/s.test(source) && !/^\$\d[\d.,]*\s/.test(source);

  // `drawing` is what blocks.js draws: source, spans, the addresses of references, where this part begins in the source.
  class Inline {
    constructor(drawing) { Object.assign(this, { drawing }); }
    all(node) { return (node.children || []).flatMap((child) => this.one(child)); }
    one(node) { return this[node.type]?.(node) || this.raw(node); }
    span({ position: { start, end } }) { return [start.offset + this.drawing.base, end.offset + this.drawing.base]; }
    literal(node, value, isLiteral) {
      const { source, spans } = this.drawing;
      return spans.text(value, Glass.offsets(value, source, ...this.span(node), isLiteral));
    }
    // As it was written.
    raw(node) {
      const [from, to] = this.span(node), value = this.drawing.source.slice(from, to);
      return this.literal(node, value, true);
    }
    text(node) { return this.literal(node, node.value, false); }
    strong(node) { return [make("strong", {}, ...this.all(node))]; }
    emphasis(node) { return [make("em", {}, ...this.all(node))]; }
    delete(node) { return [make("del", {}, ...this.all(node))]; }
    break() { return [make("br")]; }
    inlineCode(node) {
      const { source } = this.drawing, [from, to] = this.span(node);
      const marks = source.slice(from, to).match(/^`+/)[0].length, value = node.value.replace(/\n/g, " ");
      const spans = this.drawing.spans.text(value, codeOffsets(value, source, from + marks, to - marks));
      return [make("code", { dir: "auto" }, ...spans)];
    }
    inlineMath(node) {
      const [from, to] = this.span(node), { spans, written } = this.drawing;
      if (!isFormula(written.slice(from, to)) || !node.value.trim()) return this.raw(node);
      const isBlock = written.startsWith("$$", from) && !this.drawing.source.startsWith("\\(", from);
      return spans.whole(Glass.formula(node.value, this.drawing.source.slice(from, to), isBlock), to);
    }
    link(node) { return this.leading(node, node.url); }
    linkReference(node) {
      const url = this.drawing.addresses.get(node.identifier);
      return url === undefined ? this.raw(node) : this.leading(node, url);
    }
    leading(node, url) {
      const sign = Glass.button(`${T.copy_address} ${url}`, "copy", () => Glass.copy(url), { class: "address" });
      return [make("span", { class: "link", title: url }, ...this.all(node)), sign];
    }
  }

  // Line ends became spaces.
  function codeOffsets(value, source, from, to) {
    const lines = source.slice(0, to).replace(/\n/g, " ");
    return Glass.offsets(value, lines, from, to, true);
  }

  return Inline;
})();
