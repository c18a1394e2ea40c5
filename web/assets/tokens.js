// How tokens are named and what their tints mean, and the box with the others that could have come: Enter on one of them
// branches.
Glass.tokens = (() => {
  const { T, make, fill, percent } = Glass;
  const visible = (text) => (text.trim() ? text : text.replace(/ /g, "␣")).replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "▫";
  const quoted = (text) => text.trim() || visible(text);
  // A token without a text of its own ends the reply or is a part of a letter: it has its label among the alternatives.
  const label = ([id, text, , , others]) => text || others.find((other) => other[0] === id)?.[1] || "▫";

  const legend = () => make("span", { class: "key", "aria-hidden": "true" }, T.likely,
    ...[0, 1, 2, 3, 4, 5].map((step) => make("i", { class: `t${step}` })), T.unlikely);

  // The alternatives of one token, in a box below it.
  class Popover {
    constructor(home, act) {
      this.box = make("div", { class: "popover", role: "dialog", "aria-label": T.alternatives, hidden: true });
      Object.assign(this, { home, act, view: null, target: null });
      home.append(this.box);
      this.box.addEventListener("keydown", (event) => this.key(event));
      document.addEventListener("pointerdown", (event) => {
        if (!this.box.contains(event.target) && !event.target.closest?.(".tok")) this.hide();
      });
      home.addEventListener("focusout", ({ relatedTarget: to }) => { if (to && !this.box.contains(to) && !to.closest(".tok")) this.hide(); });
      home.addEventListener("mouseleave", () => { if (!this.box.contains(document.activeElement)) this.hide(); });
    }
    show(view, target) {
      if (this.target === target && !this.box.hidden) return;
      this.target?.classList.remove("chosen");
      Object.assign(this, { view, target });
      target.classList.add("chosen");
      this.fill(view.node.tokens[Number(target.dataset.i)]);
      this.place(target);
    }
    // Only where the pointer rests: text that moves under it opens nothing.
    hover(view, target) {
      if (this.resting === target || innerWidth < 640) return; // a finger does not rest over a word
      this.resting = target;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => { if (this.resting === target && target.matches(":hover")) this.show(view, target); }, 120);
    }
    fill(token) {
      const [id, , share, after, others] = token;
      const title = make("p", { class: "title" }, make("b", {}, quoted(label(token))),
        share === null ? ` ${T.no_share}` : ` ${fill(T.share, { share: percent(share), after: percent(after) })}`);
      const rows = others.map((other) => this.row(other, other[0] === id));
      const look = Glass.button(T.look_inside, "", () => this.look(), { class: "look" });
      this.box.replaceChildren(title, ...(rows.length ? [make("p", { class: "hint" }, T.branch_hint), make("ul", {}, ...rows)] : []), look);
    }
    row([id, text, share, after], current) {
      const words = fill(T.alternative, { token: quoted(text), share: percent(share), after: after ? percent(after) : T.cut });
      const bars = make("span", { class: "bars", "aria-hidden": "true" },
        make("i", { style: `width:${100 * share}%` }), make("i", { class: "after", style: `width:${100 * after}%` }));
      const shares = make("span", { class: "shares" }, `${percent(share)} → ${after ? percent(after) : T.cut}`);
      return make("li", {}, make("button", {
        type: "button", "aria-label": words, "aria-current": current ? "true" : null, class: after ? null : "cut",
        onclick: () => this.branch(id, current),
      }, make("span", { class: "word" }, visible(text)), bars, shares));
    }
    // Into the panel of the word, below its alternatives.
    look() {
      const where = this.where();
      this.hide();
      Glass.word.open(this.target, false);
      this.act({ do: "inspect", ...where });
    }
    where() { return { node: this.view.number, index: Number(this.target.dataset.i) }; }
    branch(id, current) {
      const where = this.where();
      this.hide();
      if (current) this.view.at(where.index)?.focus();
      else this.act({ do: "branch", ...where, id });
    }
    place(target) {
      this.box.hidden = false;
      if (innerWidth < 640) return; // a sheet at the foot of the screen, by the stylesheet
      const home = this.home.getBoundingClientRect(), at = target.getClientRects()[0] || target.getBoundingClientRect();
      const left = Math.max(8, Math.min(at.left - home.left, home.width - this.box.offsetWidth - 8));
      const below = at.bottom + this.box.offsetHeight + 8 < innerHeight || at.top < this.box.offsetHeight + 8;
      this.box.style.left = `${left}px`;
      this.box.style.top = `${below ? at.bottom - home.top + 6 : at.top - home.top - this.box.offsetHeight - 6}px`;
    }
    hide() {
      this.box.hidden = true;
      this.resting = null;
      this.target?.classList.remove("chosen");
    }
    key(event) {
      const buttons = [...this.box.querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
      if (to !== undefined) buttons[(to + buttons.length) % buttons.length].focus();
      else if (event.key === "Escape") { const target = this.target; this.hide(); target?.focus(); this.hide(); }
      else return;
      event.preventDefault();
      event.stopPropagation();
    }
  }

  return { Popover, legend, label, quoted, visible };
})();
