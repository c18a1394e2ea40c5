// Which words of the replies are tinted: those of which the model was unsure, all, or none. Kept in this browser.
Glass.colours = (() => {
  const { T, make, say } = Glass;
  const CHOICES = ["unsure", "all", "off"];
  const now = () => (CHOICES.includes(Glass.store.setting("colours")) ? Glass.store.setting("colours") : CHOICES[0]);
  const show = () => { document.documentElement.dataset.colours = now(); };
  let box;

  function choose(choice) {
    Glass.store.setting("colours", choice);
    show();
    box.value = choice;
    say(`${T.colours}: ${T[`colours_${choice}`]}`);
  }

  return {
    // The choice with its name, for the toolbar.
    chooser() {
      box = make("select", { id: "colours", onchange: () => choose(box.value) },
        ...CHOICES.map((choice) => make("option", { value: choice }, T[`colours_${choice}`])));
      box.value = now();
      show();
      return make("label", { class: "colours" }, T.colours, " ", box);
    },
    next() { choose(CHOICES[(CHOICES.indexOf(now()) + 1) % CHOICES.length]); },
  };
})();
