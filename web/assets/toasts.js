// Short words at one place, over the composer: what was just done, perhaps with a way back, and that the server is away.
Glass.toasts = (() => {
  const { T, make, button, say } = Glass;
  const SECONDS = 3, SECONDS_WITH_WAY_BACK = 10, ASK_SECONDS = 1;
  let home, away = null;

  function show(words, seconds, ...more) {
    if (!home) document.body.append(home = make("div", { id: "toasts" }));
    const toast = make("div", { class: "toast" }, make("span", {}, words), ...more);
    home.append(toast);
    say(words);
    if (seconds) setTimeout(() => fade(toast), 1000 * seconds);
    return toast;
  }
  // Not while somebody is at its button.
  function fade(toast) {
    if (toast.matches(":hover, :focus-within")) setTimeout(() => fade(toast), 1000);
    else toast.remove();
  }

  // Until the server answers again.
  async function lost() {
    if (away) return;
    away = show(T.server_lost, 0);
    for (;;) {
      await new Promise((go) => setTimeout(go, 1000 * ASK_SECONDS));
      try {
        if ((await fetch("health")).status) break;
      } catch { /* still away */ }
    }
    away.remove();
    away = null;
    show(T.server_back, SECONDS);
  }

  return {
    say: (words) => { show(words, SECONDS); },
    withWayBack(words, undo) {
      const toast = show(words, SECONDS_WITH_WAY_BACK, button(T.undo, "", () => { toast.remove(); undo(); }));
    },
    lost,
  };
})();
