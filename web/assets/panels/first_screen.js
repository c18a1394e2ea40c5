// The first screen of an empty chat: a stored sentence as the model saw it, with one word open, and questions to begin
// with. Choosing another word in it begins a real chat that branches there, if the model that wrote it is here.
Glass.firstScreen = (() => {
  const { T, make, button, percent, tint } = Glass;

  function odds([id, , , , others], choose) {
    const longest = others[0][2];
    return others.slice(0, 4).map(([other, text, share]) => make("button", {
      type: "button", class: other === id ? "current" : null, "aria-label": `${text.trim() || "␣"} ${percent(share)}`, onclick: () => choose(other, other === id),
    }, make("bdi", {}, text.trim() || "␣"), make("i", { style: `width:${(100 * share) / longest}%` }), make("span", {}, percent(share))));
  }

  // `sample` is a chat of two messages, of which token `open` is shown open.
  function sampleOf({ chat, open }, branch) {
    const { tokens } = chat.nodes[1], list = make("div", { class: "odds", role: "group", "aria-label": T.alternatives });
    // Whole words here: a token that goes on with one belongs to it.
    const begins = tokens.flatMap(([, text], index) => (index === 0 || text.startsWith(" ") ? [index] : []));
    const words = begins.map((index, at) => {
      const text = tokens.slice(index, begins[at + 1]).map((token) => token[1]).join(""), share = tokens[index][2];
      return make("button", { type: "button", class: `word t${tint(share)}`, "aria-label": `${text.trim()} ${percent(share)}`, onclick: () => show(index) }, text);
    });
    function show(index) {
      words.forEach((word, at) => word.setAttribute("aria-pressed", begins[at] === index));
      list.replaceChildren(...odds(tokens[index], (id, isCurrent) => { if (!isCurrent) branch(index, id); }));
    }
    show(open);
    return make("section", { class: "sample", "aria-label": T.sample }, make("p", { class: "said" }, chat.nodes[0].words),
      make("p", { class: "words" }, ...words), make("p", { class: "hint" }, T.sample_hint), list);
  }

  return {
    // `page` is the conversation (chat/conversation.js); the rest is what welcome.py says of the model.
    of(page, { model, notice, hint, examples, sample, larger }) {
      const ask = (words) => { page.act({ do: "ask", text: words }); Glass.composer.focus(); };
      const isOwn = sample && sample.chat.nodes[1].model_id === model;
      const branch = (index, id) => {
        if (!isOwn) { ask(sample.chat.nodes[0].words); return; }
        page.show(Glass.Tree.from({ ...structuredClone(sample.chat), id: "" }));
        page.act({ do: "branch", node: 1, index, id });
      };
      const more = larger ? button(T.larger_model, "", () => document.querySelector("#model-chip").click(), { class: "larger" }) : null;
      return make("div", { class: "welcome" },
        make("h2", {}, T.promise), make("p", {}, hint), sample ? sampleOf(sample, branch) : null,
        make("div", { class: "examples" }, ...examples.map((words) => make("button", { type: "button", onclick: () => ask(words) }, words))),
        notice || more ? make("p", { class: "about" }, notice, " ", more) : null);
    },
  };
})();
