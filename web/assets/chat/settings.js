// What stands in the boxes and sliders beside the conversation, kept in this browser for the next time.
Glass.settings = (() => {
  const { store } = Glass;
  const [SYSTEM, , SEED, STOP, TEMPERATURE] = [0, 1, 2, 3, 4]; // places among the values; 1 is how the reply begins
  let isRestored = false, latest = [];

  return {
    keep(...values) {
      latest = values;
      if (isRestored) store.setting("settings", JSON.stringify(values));
    },
    get now() { return { temperature: latest[TEMPERATURE], seed: latest[SEED] }; },
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
      return latest = values;
    },
  };
})();
