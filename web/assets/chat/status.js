// The line over the message box. What the server says of a conversation stands there only as long as that conversation
// is shown; a problem stands until one types again.
Glass.status = (() => {
  const { T, make, say } = Glass;
  let home, field = null, waits = false;
  const lines = new Map(); // the last line of each conversation

  function show(...nodes) { home.replaceChildren(...nodes); }

  // Of two replies side by side the line tells of one: the second when the first has ended.
  function isFirst({ chat, request }) {
    const { replies } = Glass.chat, tree = replies.tree(chat), first = tree && replies.of(tree);
    return !first || first.number === Number(request);
  }

  // That the engine gets ready is said when it begins and when it ends, not at each program.
  function sayReadiness() {
    const now = home.querySelector(".progress") ? T.getting_ready : home.textContent.trim();
    if (now !== (waits ? T.ready : T.getting_ready)) return;
    say(now);
    waits = !waits;
  }

  function receive(value) {
    const { body } = new DOMParser().parseFromString(value, "text/html");
    const owner = body.querySelector("[data-chat]"), nodes = [...(owner || body).childNodes];
    if (owner && !isFirst(owner.dataset)) return;
    if (owner) lines.set(owner.dataset.chat, nodes);
    if (owner && owner.dataset.chat !== Glass.chat.chat.id) return;
    show(...nodes);
    sayReadiness();
  }

  // The control with this label, in the settings.
  const control = (label) => [...document.querySelectorAll("#settings .block")]
    .find((block) => block.querySelector("[data-testid=block-info]")?.textContent.trim() === label)?.querySelector("input, textarea");

  function forgive() {
    if (home.querySelector(".problem")) show();
    field?.removeAttribute("aria-invalid");
    field = null;
  }

  return {
    mount(element, props, watch) {
      element.append(home = make("div", { class: "line" }));
      watch("value", () => receive(props.value || ""));
      if (props.value) receive(props.value);
      addEventListener("input", forgive);
    },
    // Another conversation is shown.
    of(id) { if (home) show(...(Glass.chat?.busy && lines.get(id) || [])); },
    problem(words, label) {
      forgive();
      show(make("span", { class: "problem", role: "alert" }, words));
      field = label ? control(label) : null;
      field?.setAttribute("aria-invalid", "true");
    },
  };
})();
