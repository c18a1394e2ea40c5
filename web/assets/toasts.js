// Short words at one place, over the composer: what was just done, perhaps with a way back, and that the server is away.
Glass.toasts = (() => {
  const { T, make, button, say } = Glass;
  const SECONDS = 3, SECONDS_WITH_WAY_BACK = 10, ASK_SECONDS = 1;
  let home, isAway = false;

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

  async function isThere() {
    try {
      return Boolean((await fetch("health")).status);
    } catch { return false; }
  }
  // Until the server answers again; nothing if it does.
  async function lost() {
    if (isAway) return;
    isAway = true;
    let toast = null;
    for (; !await isThere(); await new Promise((go) => setTimeout(go, 1000 * ASK_SECONDS))) toast ||= show(T.server_lost, 0);
    isAway = false;
    if (!toast) return;
    toast.remove();
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
