// The same question answered twice, side by side: each reply with a temperature and a seed of its own. They are two
// versions of one message, so that whichever is kept, the other is not lost.
Glass.Sides = (() => {
  const { T, make, button, fill, textOf } = Glass;
  const NAMES = ["left", "right"], MARK_SECONDS = 0.2, MOST_SEED = 10_000;
  const isTouch = matchMedia("(pointer: coarse)").matches; // where a field with the focus opens a keyboard

  class Sides {
    // `page` is the conversation. `numbers` are the two replies, as soon as they are in its tree.
    constructor(page) {
      Object.assign(this, { page, isOpen: false, numbers: [] });
      this.columns = NAMES.map((_, at) => column(at ? T.sides_second : T.sides_first));
      this.told = make("p", { class: "hint", role: "status" });
      this.hint = make("p", { class: "hint" });
      const form = make("form", { onsubmit: (event) => { event.preventDefault(); this.begin(); } },
        make("div", { class: "columns" }, ...this.columns.map(({ element }) => element)), this.told,
        make("div", { class: "row" }, make("button", { class: "primary" }, T.sides_begin), button(T.close, "", () => this.leave())));
      this.element = make("section", { class: "sides", "aria-labelledby": "sides-title" }, make("h2", { id: "sides-title" }, T.sides), this.hint, form);
      this.element.addEventListener("keydown", (event) => this.key(event));
      const changed = new MutationObserver(() => { this.later ||= setTimeout(() => this.mark(), 1000 * MARK_SECONDS); });
      for (const { place } of this.columns) changed.observe(place, { childList: true, subtree: true });
    }
    has(number) { return this.isOpen && this.numbers.includes(number); }
    // The next message is to be answered twice.
    get isWaiting() { return this.isOpen && !this.numbers.length; }

    toggle() {
      if (this.isOpen) { this.leave(); return; }
      this.isOpen = true;
      this.prefill();
      this.page.draw();
      this.element.scrollIntoView({ block: "nearest" });
      this.element.querySelector(isTouch ? ".primary" : "input").focus();
    }
    // The second differs in its seed; where that makes no difference, in its temperature.
    prefill() {
      const temperature = beside("temperature"), first = beside("seed").trim() || draw(), isGreedy = Number(temperature) === 0;
      const settings = [[temperature, first], [isGreedy ? 1 : temperature, isGreedy ? first : draw()]];
      this.columns.forEach((column, at) => { [column.temperature.value, column.seed.value] = settings[at]; });
      const { slots } = this.page.props.welcome;
      this.hint.textContent = `${T.sides_hint} ${slots < 2 ? T.sides_in_turn : ""}`;
    }
    close() {
      Object.assign(this, { isOpen: false, numbers: [] });
      for (const { place } of this.columns) place.replaceChildren();
      this.told.textContent = "";
    }
    leave() {
      this.close();
      this.page.draw();
      document.querySelector("#message .sides-button").focus();
    }
    keep(number) {
      this.close();
      this.page.turnTo(number);
    }

    // What is in the message box is asked; if nothing is, the last question again.
    begin() {
      const { chat } = this.page, text = Glass.composer.text, last = this.numbers[0] ?? chat.path.at(-1);
      if (text.trim()) this.send(0, { do: "ask", text: this.page.joined(text) });
      else if (chat.nodes[last]?.role === "assistant") this.send(0, { do: "retry", node: last });
      else {
        Glass.status.problem(T.sides_nothing);
        document.querySelector("#message textarea").focus();
      }
    }
    send(at, event) {
      const { temperature, seed } = this.columns[at];
      this.page.act({ ...event, side: NAMES[at], temperature: Number(temperature.value), seed: seed.value.trim() });
    }
    // A reply has begun: the second follows the first. Until one is kept, the chat goes on from the first.
    asked({ tree, side, numbers }) {
      const at = NAMES.indexOf(side), number = numbers.at(-1);
      if (at < 0) { this.close(); return; }
      this.numbers = [...this.numbers.slice(0, at), number];
      this.told.textContent = "";
      if (at === 0) this.send(1, { do: "retry", node: number });
      else tree.select(tree.nodes[number].parent, this.numbers[0]);
    }
    // The rows of the replies, in their columns.
    with(rows) {
      this.columns.forEach(({ place }, at) => { if (rows[at] && place.firstChild !== rows[at]) place.replaceChildren(rows[at]); });
      return this.element;
    }
    key(event) {
      if (event.key !== "Escape" || this.page.busy || event.target.closest(".tok")) return;
      event.stopPropagation();
      this.leave();
    }

    // Underlines the words that the other reply does not have.
    mark() {
      this.later = null;
      const { chat, rows } = this.page, nodes = this.numbers.map((number) => chat.nodes[number]), texts = nodes.map(textOf);
      if (texts.length < 2 || !texts.every((text) => text.trim())) return;
      const isGrowing = nodes.some(({ live }) => live), found = Glass.differences(...texts, isGrowing), [left, right] = found.map((words) => words.length);
      this.numbers.forEach((number, at) => underline(rows.get(number)?.view, found[at]));
      this.told.textContent = isGrowing ? "" : left + right ? fill(T.sides_differ, { left, right }) : T.sides_same;
    }
  }

  // What stands in a control beside the conversation.
  const beside = (name) => document.querySelector(`#knob-${name} :is(input[type=number], input[type=text], textarea)`).value;
  const draw = () => String(crypto.getRandomValues(new Uint32Array(1))[0] % MOST_SEED);

  function column(name) {
    const temperature = make("input", { type: "number", min: 0, step: "any", required: true, inputmode: "decimal" });
    const seed = make("input", { type: "text", pattern: "[0-9]*", inputmode: "numeric", title: T.sides_seed, autocomplete: "off" });
    const place = make("div", { class: "place" });
    const knobs = make("div", { class: "knobs" }, make("label", {}, T.sides_temperature, temperature), make("label", {}, T.seed, seed));
    return { element: make("fieldset", { class: "column" }, make("legend", {}, name), knobs, place), temperature, seed, place };
  }

  // The tokens in which one of these [from, to] lies.
  function underline(view, words) {
    if (!view) return;
    const { starts } = view.spans;
    for (const token of view.element.querySelectorAll(".tok")) {
      const from = starts[token.dataset.i], to = starts[Number(token.dataset.i) + 1];
      token.classList.toggle("differs", words.some(([begin, end]) => begin < to && from < end));
    }
  }

  return Sides;
})();
