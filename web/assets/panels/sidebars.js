// The sidebars: closed at first where there is little room, then as the person last left them; on a phone always closed.
(() => {
  const { store } = Glass, WIDE = 1500, PHONE = 768;
  const toggleOf = (name) => document.querySelector(`#${name} .toggle-button`);
  const isOpen = (name) => document.querySelector(`#${name}`).classList.contains("open");
  const wanted = (name) => innerWidth >= PHONE && (store.setting(`open/${name}`) ?? (innerWidth >= WIDE ? "yes" : "no")) === "yes";
  const NAMES = ["library", "settings"];
  // After what was clicked has taken its place: a shift of what is seen is counted as one.
  const settled = () => requestAnimationFrame(() => setTimeout(() => document.documentElement.classList.add("settled"), 50));

  // Gradio puts the controls in their places one after another; until they stand still nothing of them is shown.
  const height = () => document.querySelector("#settings .sidebar-content")?.scrollHeight;

  function restore(since = performance.now(), before = 0, still = 0) {
    const there = NAMES.every((name) => toggleOf(name)), now = height();
    if (there) for (const name of NAMES) if (wanted(name) !== isOpen(name)) toggleOf(name).click(); // no effect until Gradio is ready
    const isRight = there && NAMES.every((name) => wanted(name) === isOpen(name)) && now === before;
    if (performance.now() - since > 5000 || (isRight && still > 5)) settled();
    else setTimeout(restore, 60, since, now, isRight ? still + 1 : 0);
  }

  // Kept before Gradio answers the click (hence the capture), so that even a page that is left at once finds it again.
  addEventListener("click", (event) => {
    const toggle = event.target.closest?.(".sidebar .toggle-button");
    if (!toggle || !event.isTrusted) return;
    document.documentElement.classList.remove("word-open"); // the whole of the settings, not the panel of a word
    for (const name of NAMES) store.setting(`open/${name}`, isOpen(name) !== (toggle === toggleOf(name)) ? "yes" : "no");
  }, { capture: true });
  restore();
})();
