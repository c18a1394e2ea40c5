// Light, dark, or as the system is: chosen among the chats, kept in this browser. Gradio sets the class on the body by
// itself, whenever it is ready and whenever the system changes; what was chosen is then set again.
Glass.theme = (() => {
  const { T, make, store } = Glass;
  const CHOICES = ["system", "light", "dark"];
  const chosen = () => (CHOICES.includes(store.setting("theme")) ? store.setting("theme") : "system");
  const asked = new URLSearchParams(location.search).get("__theme"); // Gradio's own way
  const ofSystem = () => (asked === "dark" || asked === "light" ? asked : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

  function apply() {
    const isDark = (chosen() === "system" ? ofSystem() : chosen()) === "dark";
    if (document.body.classList.contains("dark") !== isDark) document.body.classList.toggle("dark", isDark);
  }

  Glass.whenThere(() => {
    apply();
    new MutationObserver(apply).observe(document.body, { attributeFilter: ["class"] });
  });

  return {
    control() {
      const select = make("select", { onchange: () => { store.setting("theme", select.value); apply(); } },
        ...CHOICES.map((choice) => make("option", { value: choice, selected: choice === chosen() }, T[`theme_${choice}`])));
      return make("label", { class: "choice" }, T.theme, select);
    },
  };
})();
