// A button over the message box while the latest words are out of sight.
(() => {
  const { T, button } = Glass;
  const latest = button(T.latest, "latest", () => { Glass.chat.end(); Glass.composer.focus(); }, { class: "latest", hidden: true });

  function look() {
    const home = document.querySelector("#composer");
    if (home && latest.parentElement !== home) home.append(latest);
    latest.hidden = !Glass.chat?.chat.path.length || Glass.chat.nearEnd();
  }

  addEventListener("scroll", look, { passive: true });
  Glass.whenThere(() => new ResizeObserver(look).observe(document.body));
})();
