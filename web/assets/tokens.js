// How tokens are named and what their tints mean, and the tip of one line over the word at which the pointer rests or the
// keys have arrived. Its alternatives are in the panel that a click opens (panels/word.js).
Glass.tokens = (() => {
  const { T, make, fill, percent } = Glass;
  const REST_SECONDS = 0.12, canHover = matchMedia("(hover: hover)").matches; // a finger does not rest over a word
  const visible = (text) => (text.trim() ? text : text.replace(/ /g, "␣")).replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "▫";
  const quoted = (text) => text.trim() || visible(text);
  // A token without a text of its own ends the reply or is a part of a letter: it has its label among the alternatives.
  const label = ([id, text, , , others]) => text || others.find((other) => other[0] === id)?.[1] || "▫";

  const legend = () => make("span", { class: "key", "aria-hidden": "true" }, T.likely,
    ...[0, 1, 2, 3, 4, 5].map((step) => make("i", { class: `t${step}` })), T.unlikely);

  // "“forest”: 29 % → 34 % after sampling"
  function told(token) {
    const [, , share, after, , forced] = token, values = { token: quoted(label(token)), share: percent(share), after: percent(after) };
    const words = fill(share === null ? T.tip_forced : values.share === values.after ? T.tip_same : T.tip, values);
    return forced && share !== null ? `${words} · ${T.forced}` : words;
  }

  class Tip {
    constructor(home) {
      this.home = home;
      // Who cannot see it hears the same as the name of the word.
      home.append(this.box = make("div", { class: "tip", "aria-hidden": "true", hidden: true }));
      for (const left of ["focusout", "pointerdown"]) home.addEventListener(left, () => this.hide());
      addEventListener("keydown", ({ key }) => { if (key === "Escape") this.hide(); }, true);
    }
    show(token, target) {
      if (!canHover) return;
      this.box.textContent = told(token);
      this.box.hidden = false;
      const home = this.home.getBoundingClientRect(), at = target.getClientRects()[0] || target.getBoundingClientRect();
      const left = Math.max(0, Math.min(at.left - home.left, home.width - this.box.offsetWidth));
      const top = Math.floor(at.top - home.top) - this.box.offsetHeight - 3;
      Object.assign(this.box.style, { left: `${left}px`, top: `${top}px` });
    }
    // Only where the pointer rests: neither text that moves under it nor selecting shows anything.
    hover(token, target, { buttons }) {
      if (this.resting === target && !buttons) return;
      this.hide();
      if (buttons) return;
      this.resting = target;
      this.timer = setTimeout(() => { if (target.matches(":hover")) this.show(token(), target); }, 1000 * REST_SECONDS);
    }
    hide() {
      clearTimeout(this.timer);
      this.box.hidden = true;
      this.resting = null;
    }
  }

  return { Tip, legend, label, quoted, visible };
})();
