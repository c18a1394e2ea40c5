// What stands in the boxes and sliders beside the conversation, kept in this browser for the next time.
Glass.settings = (() => {
  const { store } = Glass;
  const [SYSTEM, , , STOP] = [0, 1, 2, 3]; // places among the values: system prompt, prefill, seed, texts to stop at
  let isRestored = false;

  return {
    keep(...values) { if (isRestored) store.setting("settings", JSON.stringify(values)); },
    // As they were; an earlier conversation has its own system prompt and texts to stop at.
    async restored(...now) {
      await Glass.chat.ready;
      let values = now;
      try {
        const kept = JSON.parse(store.setting("settings"));
        if (Array.isArray(kept) && kept.length === now.length) values = kept.map((value, place) => (typeof value === typeof now[place] ? value : now[place]));
      } catch { /* not what this page has written */ }
      const { id, system, stop } = Glass.chat.chat;
      if (id) [values[SYSTEM], values[STOP]] = [system || "", stop || ""];
      isRestored = true;
      Glass.composer.restore();
      return values;
    },
  };
})();
