// One reply: its text rendered and cut into tokens, tinted by how likely each was. One tab stop a reply; the arrows walk,
// Enter opens the alternatives. While it is written, only the blocks that can still change are drawn again.
Glass.View = (() => {
  const { T, make, textOf } = Glass;

  const parser = Glass.lazy("markdown", "VendoredMarkdown");

  // `node` is the message as it stands in the conversation, and grows. `isPlain`: it is no Markdown, but a part of a text.
  class View {
    constructor(element, number, node, tip, isPlain) {
      Object.assign(this, { element, number, node, tip, isPlain, spans: new Glass.Spans(node), parts: [], rest: 0, drawn: [] });
      element.classList.add("tokens");
      element.setAttribute("role", "group");
      element.setAttribute("aria-label", T.tokens_label);
      element.addEventListener("keydown", (event) => this.key(event));
      element.addEventListener("click", (event) => this.on(event, (target) => this.choose(target, false)));
      element.addEventListener("mousemove", (event) => {
        const target = event.target.closest(".tok");
        if (target) tip.hover(() => this.token(target), target, event);
        else tip.hide();
      });
      element.addEventListener("mouseleave", () => tip.hide());
      element.addEventListener("focusin", (event) => this.on(event, (target) => {
        this.stop(target);
        if (target.matches(":focus-visible")) tip.show(this.token(target), target);
      }));
      this.grow();
    }
    on(event, act) {
      const target = event.target.closest(".tok");
      if (target) act(target);
    }
    token(target) { return this.node.tokens[Number(target.dataset.i)]; }
    // Where Tab stops.
    stop(target) {
      this.element.querySelector('.tok[tabindex="0"]')?.setAttribute("tabindex", -1);
      target?.setAttribute("tabindex", 0);
    }
    // At most a quarter of the time goes into drawing: a paragraph of thousands of words would else take all of it.
    grow() {
      if (!window.VendoredMarkdown && !this.isPlain) { this.wait(); return; }
      clearTimeout(this.later);
      const began = performance.now();
      if (this.node.live && began < this.rest) { this.later = setTimeout(() => this.growLater(), this.rest - began); return; }
      this.redraw();
      this.rest = performance.now() + 3 * (performance.now() - began);
    }
    // The end stays in sight if it was.
    growLater() {
      const follow = Glass.chat.nearEnd();
      this.grow();
      if (follow) Glass.chat.end();
    }
    redraw() {
      const source = textOf(this.node), focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.i : undefined;
      Object.assign(this.spans, { tokens: this.node.tokens || [], marks: this.node.marks || [], finish: this.node.finish });
      this.spans.measure();
      if (this.isPlain) this.drawPlain(source);
      else this.drawMarkdown(source);
      if (!this.element.querySelector('.tok[tabindex="0"]')) this.stop(this.at(0));
      if (focused !== undefined && !this.element.contains(document.activeElement)) this.at(focused)?.focus();
    }
    // Only what is new, as long as it is written and goes on from what stands here.
    drawPlain(source) {
      const { spans, drawn, node } = this, goesOn = node.live && drawn.every((token, index) => token === spans.tokens[index]);
      if (!goesOn) this.clear();
      this.element.append(...spans.literal(source, spans.starts[goesOn ? drawn.length : 0], source.length));
      if (!node.live) this.element.append(...spans.before(spans.tokens.length));
      this.drawn = [...spans.tokens];
    }
    drawMarkdown(source) {
      const pieces = Glass.pieces(source);
      if (this.parts.some(({ kind }, place) => kind !== pieces[place]?.kind)) this.clear(); // text turned out to be a call
      pieces.forEach((piece, place) => {
        const part = this.parts[place] ||= this.begin(piece), isLast = place === pieces.length - 1;
        if (part.isClosed) return;
        if (piece.kind === "call") this.drawCall(part, source, piece);
        else this.draw(part, source, piece.to, !isLast || !this.node.live);
        part.isClosed = !isLast;
      });
      this.tail();
    }
    // As written, until what reads Markdown has come.
    wait() {
      this.element.textContent = textOf(this.node);
      this.waiting ||= parser.then((library) => {
        if (!library) return;
        this.element.replaceChildren();
        this.grow();
      });
    }
    clear() {
      this.element.replaceChildren();
      this.parts = [];
      this.spans.rewind(0, 0);
    }
    // A part has a home on the page, and where its drawing goes on: in the source, among the tokens and the marks.
    begin({ kind, from }) {
      const home = kind === "text" ? this.element : make("div", {}), title = make("summary", {}, T.thought);
      if (kind !== "text") this.element.append(make("details", { class: `fold ${kind}` }, title, home));
      return { kind, home, title, at: from, token: this.spans.next, mark: this.spans.mark, open: [] };
    }
    // What stands there of it may still change and is drawn again.
    reopen(part) {
      for (const element of part.open) element.remove();
      this.spans.rewind(part.token, part.mark);
      part.open = [];
    }
    drawCall(part, source, { name, from, to }) {
      this.reopen(part);
      part.title.textContent = name ? Glass.fill(T.call_of, { name }) : T.call;
      part.open = [make("pre", { dir: "ltr" }, make("code", {}, ...this.spans.literal(source, from, to)))];
      part.home.append(...part.open);
    }
    draw(part, source, to, isFinal) {
      const drawn = new Glass.Blocks(source, part.at, to, this.spans), { blocks } = drawn;
      const words = blocks.length === 1 && this.spans.tokens.length ? drawn.words(blocks[0], isFinal) : null, { words: before } = part;
      if (words && before?.kind === words.kind && words.value.startsWith(before.value)) this.goOn(part, words);
      else this.drawBlocks(part, drawn, isFinal ? blocks.length : unchanging(drawn, to));
      part.words = words;
    }
    // A block of words alone in which more have come: those, and the token before them, which may go on in them.
    goOn({ open, token, mark }, { value, offsets }) {
      for (const tail of open.splice(1)) tail.remove();
      const home = open[0].querySelector("code") || open[0], { starts, marks } = this.spans;
      while (home.lastChild?.matches(".gone, .part, .end, .mark")) home.lastChild.remove();
      const last = home.lastChild, index = last ? Number(last.dataset.i) : token;
      last?.remove();
      this.spans.rewind(index, last ? marks.filter(([place]) => place <= index).length : mark);
      const from = last ? offsets.findIndex((place) => place >= starts[index]) : 0;
      home.append(...this.spans.text(value.slice(from), offsets.slice(from)));
    }
    drawBlocks(part, drawn, settled) {
      const { blocks, base } = drawn;
      this.reopen(part);
      blocks.forEach((block, place) => {
        const isOpen = place >= settled || place === blocks.length - 1;
        if (place === Math.min(settled, blocks.length - 1)) Object.assign(part, { at: base + lineStart(drawn, block), token: this.spans.next, mark: this.spans.mark });
        const elements = drawn.block(block, place < settled).map((made) => (made instanceof Element ? made : make("p", { class: "lines", dir: "auto" }, made)));
        part.home.append(...elements);
        if (isOpen) part.open.push(...elements);
      });
    }
    // The tokens after the last that is seen: the end, or marks that vanished.
    tail() {
      const { tokens } = this.spans, nodes = this.spans.before(tokens.length), part = this.parts.at(-1);
      if (!nodes.length) return;
      const last = part.open.at(-1), lines = last?.matches(".lines") ? last : [...last?.querySelectorAll("li > .lines, blockquote > .lines") || []].at(-1);
      if (lines) { lines.append(...nodes); return; }
      const home = make("p", { class: "lines" }, ...nodes);
      part.home.append(home);
      part.open.push(home);
    }
    // Its alternatives stand in the panel of the word, and what is inside it if that is unfolded.
    choose(target, byKey) {
      this.tip.hide();
      Glass.chat.act({ do: Glass.word.isUnfolded ? "inspect" : "choose", node: this.number, index: Number(target.dataset.i) });
      Glass.word.open(target, byKey);
    }
    at(index) { return this.element.querySelector(`.tok[data-i="${index}"]`); }
    key(event) {
      const target = event.target.closest(".tok");
      if (!target) return;
      const index = Number(target.dataset.i), last = this.spans.tokens.length - 1;
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: last }[event.key];
      if (to !== undefined) this.focus(Math.max(0, Math.min(last, to)));
      else if (event.key === "Enter" || event.key === " " || event.key === "ArrowDown") {
        this.choose(target, true);
      } else return;
      event.preventDefault();
      event.stopPropagation();
    }
    focus(index) {
      const target = this.at(index), fold = target?.closest("details:not([open])");
      if (fold) fold.open = true;
      target?.focus();
    }
  }

  // How many blocks words to come cannot change: all but the last, and the one before it if the last may turn out to go
  // on with it ("2" before "2. second").
  function unchanging({ blocks, source, base }, to) {
    const last = blocks.at(-1), line = source.lastIndexOf("\n", to - 1) + 1;
    return Math.max(0, blocks.length - (last && base + last.position.start.offset >= line ? 2 : 1));
  }
  // With the spaces before it, which are a part of it (code by indentation).
  function lineStart({ source, base }, block) {
    return Math.max(base, source.lastIndexOf("\n", base + block.position.start.offset - 1) + 1) - base;
  }

  return View;
})();
