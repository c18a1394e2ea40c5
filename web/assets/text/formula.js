// A formula in LaTeX, drawn as MathML, for which the browser has the letters. As written until what draws it has come.
Glass.formula = (() => {
  const { make } = Glass;

  return function formula(tex, source, isBlock) {
    const home = make("span", { class: isBlock ? "formula block" : "formula", dir: "ltr" }, source);
    draw(home, tex, isBlock);
    return home;
  };

  async function draw(home, tex, isBlock) {
    const temml = (await Glass.lazy("formula", "VendoredFormula"))?.default;
    if (!temml) return;
    const drawn = make("span");
    try {
      temml.render(tex, drawn, { displayMode: isBlock, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 20] });
    } catch { return; } // not LaTeX that it knows
    home.replaceChildren(...drawn.childNodes);
  }
})();
