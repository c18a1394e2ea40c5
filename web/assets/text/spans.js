// Text cut at the borders of the tokens that it was made of. A token of which nothing is seen (a mark that vanished, a part
// of a letter) is an empty span before the next text: every token stands in the page, in its order.
Glass.Spans = (() => {
  const { T, make, percent, tint } = Glass;

  class Spans {
    // `source` is the text of all `tokens`; `marks` are [token, words], what was changed while they were written.
    constructor({ tokens = [], marks = [], finish }) {
      Object.assign(this, { tokens, marks, finish });
      this.starts = [0]; // where each token begins in the source
      this.rewind(0, 0);
    }
    // New tokens have come.
    measure() {
      while (this.starts.length <= this.tokens.length)
        this.starts.push(this.starts.at(-1) + this.tokens[this.starts.length - 1][1].length);
    }
    // The next token to be drawn and the next mark.
    rewind(next, mark) {
      Object.assign(this, { next, mark });
      this.measure();
    }
    // Which token the character at `offset` belongs to.
    tokenAt(offset) {
      let [low, high] = [0, this.tokens.length - 1];
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (this.starts[middle] <= offset) low = middle;
        else high = middle - 1;
      }
      return low;
    }
    // `value` as nodes; `offsets` has a place in the source for each of its UTF-16 units.
    text(value, offsets) {
      if (!this.tokens.length) return [value];
      const made = [];
      for (let from = 0; from < value.length;) {
        const index = this.tokenAt(offsets[from]);
        let to = from + 1;
        while (to < value.length && this.tokenAt(offsets[to]) === index) to++;
        made.push(...this.before(index), this.span(index, value.slice(from, to)));
        this.next = Math.max(this.next, index + 1);
        from = to;
      }
      return made;
    }
    // A part of the source as it was written.
    literal(source, from, to) { return this.text(source.slice(from, to), [...Array(to - from).keys()].map((place) => from + place)); }
    // What cannot be cut (a formula) belongs to the last token that ends in it.
    whole(element, to) {
      if (!this.tokens.length) return [element];
      const index = this.tokenAt(to - 1), made = this.before(index), span = this.span(index, "");
      span.append(element);
      this.next = Math.max(this.next, index + 1);
      return [...made, span];
    }
    // The tokens before `index` of which nothing was drawn, and the marks that stand there.
    before(index) {
      const made = [];
      for (; this.next < index; this.next++) made.push(...this.changes(this.next), this.gone(this.next));
      return [...made, ...this.changes(index)];
    }
    changes(index) {
      const made = [];
      while (this.mark < this.marks.length && this.marks[this.mark][0] <= index)
        made.push(make("span", { class: "mark", role: "note" }, `⟨${this.marks[this.mark++][1]}⟩`));
      return made;
    }
    gone(index) {
      const text = this.tokens[index][1], isEnd = !text && this.finish === "stop" && index === this.tokens.length - 1;
      const span = this.span(index, "", isEnd ? T.end_label : undefined);
      span.classList.add(isEnd ? "end" : text ? "gone" : "part");
      span.dataset.name = isEnd ? T.end : Glass.tokens.visible(Glass.tokens.label(this.tokens[index]));
      return span;
    }
    span(index, words, name = Glass.tokens.quoted(Glass.tokens.label(this.tokens[index]))) {
      const token = this.tokens[index], [, , share, , , forced] = token;
      const chance = forced ? T.forced : share === null ? "" : percent(share);
      return make("span", {
        class: `tok t${tint(share)}${forced ? " forced" : ""}`, role: "button", tabindex: -1, "data-i": index,
        "aria-label": `${name} ${chance}`.trim(), "aria-haspopup": "dialog",
      }, words);
    }
  }

  return Spans;
})();
