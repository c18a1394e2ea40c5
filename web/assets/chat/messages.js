// The messages of a conversation as they are seen: each with its head, its words and what can be done with it.
Glass.Messages = (() => {
  const { T, make, button, fill, textOf } = Glass;
  const EAGER = 12; // so many of the last messages are drawn at once, the others when they come into sight
  const MOST_LINES = 12, MOST_LETTERS = 1200; // of a message of the person's before it is folded
  const ELSEWHERE_SECONDS = 5; // another tab that is writing a reply says so more often
  const UNFINISHED = ["length", "cancelled", "broken", "error", "context", "time_limit", "shutdown"];

  class Messages {
    static ELSEWHERE_SECONDS = ELSEWHERE_SECONDS;

    constructor(element, chat) {
      Object.assign(this, { element, chat, rows: new Map() });
      this.list = make("div", { class: "messages" });
      this.tip = new Glass.tokens.Tip(element);
      this.sight = new IntersectionObserver((rows) => this.seen(rows), { rootMargin: "1500px 0px" });
    }

    // Only what has changed is made anew.
    draw() {
      this.tip.hide();
      this.list.classList.toggle("text", this.isText && this.chat.path.length > 0);
      const place = this.placeOfFocus(), { path, told_from } = this.chat, rows = [];
      const known = this.rows;
      this.rows = new Map();
      if (this.sides.numbers.length && !path.some((number) => this.sides.has(number))) this.sides.close();
      path.forEach((number, place) => {
        if (number === told_from) rows.push(make("p", { class: "dropped", role: "note" }, fill(T.dropped, { count: place })));
        const drawn = (this.sides.has(number) ? this.sides.numbers : [number]).map((one) => {
          const old = known.get(one), entry = old?.looks === this.looks(one) ? old : this.message(one, place >= path.length - EAGER, old);
          entry.row.classList.toggle("forgotten", place < path.indexOf(told_from));
          this.rows.set(one, entry);
          return entry.row;
        });
        rows.push(this.sides.has(number) ? this.sides.with(drawn) : drawn[0]);
      });
      if (!rows.length) rows.push(this.welcome());
      if (this.sides.isWaiting) rows.push(this.sides.element);
      if (this.chat.undone.length && !this.busy)
        rows.push(make("p", { class: "undone" }, button(T.redo, "", () => this.redo(), { class: "resume" })));
      arrange(this.list, rows);
      this.focusAt(place);
    }
    // All that a message's picture depends on.
    looks(number) {
      const node = this.chat.nodes[number], versions = this.chat.versions(number), isLast = this.chat.path.at(-1) === number;
      return [versions.indexOf(number), versions.length, isLast, this.sides.has(number), this.isText, node.live, this.isElsewhere(node), node.finish, node.problem, node.facts,
        node.tokens?.length, node.words?.length, node.marks?.length].join();
    }
    isElsewhere(node) { return Date.now() - (node.elsewhere || 0) < 1000 * ELSEWHERE_SECONDS; }
    // What has the focus in the conversation, so that it has it again in what is drawn instead.
    placeOfFocus() {
      const at = document.activeElement;
      if (!this.element.contains(at)) return null;
      const row = at.closest("[data-node]"), label = at.getAttribute("aria-label") || at.textContent;
      return { at, node: Number(row?.dataset.node), token: at.matches(".tok") ? Number(at.dataset.i) : null, label };
    }
    focusAt(place) {
      if (!place || place.at.isConnected && document.activeElement === place.at) return;
      const entry = this.rows.get(place.node) || this.rows.get(this.chat.path.at(-1));
      const same = place.token === null ? [...entry?.row.querySelectorAll("button") || []].find((it) => (it.ariaLabel || it.textContent) === place.label) :
        entry?.view?.at(place.token);
      if (same) { same.focus(); this.tip.hide(); } else Glass.composer?.focus();
    }
    welcome() { return Glass.firstScreen.of(this, this.props.welcome); }
    // In the row and with the body that it had, if the same words go on: what is selected there stays so.
    message(number, isNear = true, old = undefined) {
      const node = this.chat.nodes[number], mine = node.role === "user";
      const head = make("header", {}, make("h2", {}, mine ? T.you : node.model || T.reply), this.isText ? null : this.chooser(number));
      const height = old?.row.offsetHeight, view = old?.view?.node === node && old.view.isPlain === this.isText ? old.view : null;
      const body = view ? view.element : make("div", { class: "body", dir: mine ? "auto" : null });
      const style = height ? `contain-intrinsic-height: auto ${height}px` : null; // as long as it is out of sight
      const row = view ? old.row :
        make("article", { class: `message ${node.role}`, "data-testid": mine ? "user" : "bot", "data-node": number, style }, head, body);
      if (view) {
        for (const child of [...row.children]) if (child !== body) child.remove();
        row.prepend(head);
      }
      const entry = { row, body, view, looks: this.looks(number), isDrawn: isNear || Boolean(view) };
      this.rows.set(number, entry);
      if (!entry.isDrawn || mine) body.textContent = textOf(node);
      if (mine && !this.isText && isLong(body.textContent)) body.classList.add("folded");
      if (entry.isDrawn) this.drawAll(number);
      else this.sight.observe(row);
      return entry;
    }
    // With the tokens and all that can be done: of hundreds of messages only those that come near.
    drawAll(number) {
      const { row, body } = this.rows.get(number);
      if (this.chat.nodes[number].role !== "user") this.reply(number);
      if (body.matches(".folded")) row.append(unfolding(body));
      row.append(this.foot(number));
    }
    // Messages that come into sight.
    seen(rows) {
      for (const { target, isIntersecting } of rows) if (isIntersecting) this.drawFar(Number(target.dataset.node));
    }
    drawFar(number) {
      const entry = this.rows.get(number);
      if (!entry || entry.isDrawn) return;
      this.sight.unobserve(entry.row);
      entry.isDrawn = true;
      if (this.chat.nodes[number].role !== "user") entry.body.replaceChildren();
      this.drawAll(number);
    }
    redraw(number) {
      const old = this.rows.get(number), place = this.placeOfFocus();
      if (old) {
        const { row } = this.message(number, true, old);
        if (row !== old.row) old.row.replaceWith(row);
      }
      this.focusAt(place);
    }
    reply(number) {
      const node = this.chat.nodes[number], entry = this.rows.get(number), live = Boolean(node.live || this.isElsewhere(node));
      entry.row.setAttribute("aria-busy", live);
      if (entry.view) entry.view.grow();
      else if (textOf(node) || node.tokens?.length) {
        entry.view = new Glass.View(entry.body, number, node, this.tip, this.isText);
        if (node.live && this.wanted !== undefined) {
          const at = this.wanted;
          this.wanted = undefined;
          setTimeout(() => {
            const target = entry.view.at(at);
            target?.focus();
            this.tip.hide();
            if (target && Glass.word.isOpen) entry.view.choose(target, false); // the panel goes with it
          });
        }
      } else entry.body.append(make("span", { class: "silence" }, live ? "…" : node.problem ? "" : node.finish === "broken" ? "" : T.silent));
      if (node.problem) entry.row.append(make("p", { class: "problem" }, textOf(node) ? T.broken_off : T.no_reply, " ", node.problem));
      else if (node.finish === "broken" && !live) entry.row.append(make("p", { class: "problem" }, T.cut_off));
    }
    grow({ number, node }) {
      const entry = this.rows.get(number);
      if (!entry || !node.tokens.length) return;
      if (entry.view) entry.view.grow();
      else {
        entry.body.replaceChildren();
        entry.view = new Glass.View(entry.body, number, node, this.tip, this.isText);
      }
    }
    chooser(number) {
      const versions = this.chat.versions(number), at = versions.indexOf(number);
      if (versions.length < 2) return null;
      return make("span", { class: "versions", role: "group", "aria-label": T.versions },
        button(T.earlier, "earlier", () => this.walk(number, -1), { disabled: at === 0 }),
        make("span", {}, `${at + 1}/${versions.length}`),
        button(T.later, "later", () => this.walk(number, 1), { disabled: at === versions.length - 1 }));
    }
    foot(number) {
      const node = this.chat.nodes[number], { live } = node, foot = make("footer");
      const last = this.chat.path.at(-1) === number, add = (name, icon, act) => foot.append(button(name, icon, act));
      if (live) return foot;
      if (this.sides.has(number)) {
        foot.append(button(T.sides_keep, "", () => this.sides.keep(number), { class: "keep" }));
        add(T.copy, "copy", () => Glass.copy(textOf(node)));
        if (node.facts) foot.append(this.facts(number, node));
        return foot;
      }
      if (this.isText && !last) return foot; // a text has one, at its end
      if (this.isText) foot.append(...[this.chooser(number)].filter(Boolean));
      add(T.copy, "copy", () => Glass.copy(this.isText ? this.text : textOf(node)));
      if (node.role === "user") {
        add(T.edit, "edit", () => this.edit(number));
        add(T.take_back, "undo", () => this.undo(number));
      } else {
        add(T.retry, "retry", () => { this.act({ do: "retry", node: number }); Glass.composer.focus(); });
        add(T.rewrite, "edit", () => this.edit(number, (text) => this.rewrite(number, text)));
        if (this.isText && node.parent >= 0) add(T.take_back, "undo", () => this.undo(node.parent));
        if (last && (UNFINISHED.includes(node.finish) || !node.finish) && textOf(node))
          foot.append(button(T.resume, "", () => this.act({ do: "resume", node: number }), { class: "resume" }));
        if (node.facts) foot.append(this.facts(number, node));
        if (this.chat.sameAs(number)) foot.append(make("span", { class: "same" }, fill(T.same_words, { number: this.chat.sameAs(number) })));
      }
      return foot;
    }
    // The first of them in sight, the others and the seed behind it.
    facts(number, { facts, seed }) {
      const [first, ...more] = facts.split(" · ");
      const again = seed && button(fill(T.seed_again, { seed }), "", () => this.act({ do: "retry", node: number, seed }), { class: "seed" });
      if (!more.length && !again) return make("span", { class: "facts" }, first);
      return make("details", { class: "facts" }, make("summary", {}, first), make("span", {}, more.join(" · ")), again || null);
    }
    edit(number, submitted = (text) => this.act({ do: "edit", node: number, text })) {
      const entry = this.rows.get(number), box = make("textarea", { "aria-label": T.edit, rows: 3, dir: "auto" });
      box.value = textOf(this.chat.nodes[number]);
      const close = () => this.redraw(number);
      const submit = () => { if (box.value.trim()) submitted(box.value); };
      box.addEventListener("keydown", (event) => {
        if (Glass.composes(event)) return; // Enter takes what an input method offers
        if (event.key === "Escape") close();
        else if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); submit(); }
        event.stopPropagation();
      });
      entry.body.replaceChildren(box, make("div", { class: "row" }, button(T.submit, "", submit, { class: "primary" }), button(T.cancel, "", close)));
      box.focus();
    }
  }

  // A pasted page or an attached file is folded to its first lines.
  const isLong = (words) => words.length > MOST_LETTERS || words.split("\n").length > MOST_LINES;
  function unfolding(body) {
    const more = button(T.unfold, "", () => {
      const isFolded = body.classList.toggle("folded");
      more.textContent = isFolded ? T.unfold : T.fold;
      more.ariaExpanded = String(!isFolded);
    }, { class: "unfold", "aria-expanded": "false" });
    return more;
  }

  // These elements in this order; those that are there already are not moved, so that they keep focus and selection.
  function arrange(list, elements) {
    const wanted = new Set(elements);
    for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
    elements.forEach((element, place) => { if (list.children[place] !== element) list.insertBefore(element, list.children[place] || null); });
  }

  return Messages;
})();
