// The map of a chat: its tree of messages as a drawing, one row a message deep. What is shown is marked; a click, or
// Enter where the arrows have led, shows another branch.
Glass.map = (() => {
  const { T, make, button, fill, textOf } = Glass;
  const ROOT = -1, WIDE = 150, HIGH = 46, EDGE = 22, LETTERS = 18, WORDS = 6;
  let dialog, home, told, places, number; // `number` is the message that has the focus

  function draw(tag, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // A version is named by its first words that the version before it does not have, the first one by those that the
  // second has not.
  function nameOf(tree, which) {
    const wordsOf = (number) => textOf(tree.nodes[number]).trim().split(/\s+/), words = wordsOf(which), versions = tree.versions(which), at = versions.indexOf(which);
    const same = tree.sameAs(which);
    if (same) return fill(T.same_words, { number: same });
    const other = versions.length > 1 ? wordsOf(versions[at ? at - 1 : 1]) : [];
    const differs = words.findIndex((word, place) => word !== other[place]), from = Math.max(0, differs);
    return `${from ? "… " : ""}${words.slice(from, from + WORDS).join(" ")}` || T.silent;
  }

  // Column and row of each message: a leaf takes the next free column, the others stand over their first child.
  function layout(tree) {
    const found = new Map();
    let free = 0;
    function place(which, row) {
      const children = tree.children.get(which) || [];
      for (const child of children) place(child, row + 1);
      if (which !== ROOT) found.set(which, { row, column: children.length ? found.get(children[0]).column : free++ });
    }
    place(ROOT, -1);
    return found;
  }
  const at = ({ column, row }) => [EDGE + column * WIDE, EDGE + row * HIGH];

  function message(tree, which, isShown) {
    const [x, y] = at(places.get(which)), { role } = tree.nodes[which], name = nameOf(tree, which);
    const who = role === "user" ? T.you : T.reply, short = name.length > LETTERS ? `${name.slice(0, LETTERS - 1)}…` : name;
    const shape = role === "user" ? draw("rect", { x: x - 7, y: y - 7, width: 14, height: 14, rx: 3 }) : draw("circle", { cx: x, cy: y, r: 8 });
    const label = draw("text", { x: x + 14, y: y + 4 }, short), room = draw("rect", { class: "room", x: x - EDGE + 2, y: y - 20, width: WIDE - 4, height: 40, rx: 8 });
    const item = draw("g", { role: "treeitem", "data-node": which, tabindex: -1, "aria-label": `${who}: ${name}`, "aria-level": places.get(which).row + 1,
      "aria-selected": isShown, class: `${role}${isShown ? " shown" : ""}` }, room, shape, label);
    item.addEventListener("click", () => show(which));
    return item;
  }
  function line(from, to, isShown) {
    const [x, y] = at(from), [toX, toY] = at(to);
    return draw("path", { class: isShown ? "shown" : "", d: x === toX ? `M${x} ${y}V${toY}` : `M${x} ${y}C${x} ${toY - HIGH / 3} ${toX} ${y + HIGH / 3} ${toX} ${toY}` });
  }

  function picture(tree) {
    places = layout(tree);
    const shown = new Set(tree.path), all = [...places.keys()].sort((one, other) => one - other);
    const columns = 1 + Math.max(...[...places.values()].map(({ column }) => column)), rows = 1 + Math.max(...[...places.values()].map(({ row }) => row));
    const [width, height] = [columns * WIDE, rows * HIGH], lines = all.filter((which) => tree.nodes[which].parent !== ROOT)
      .map((which) => line(places.get(tree.nodes[which].parent), places.get(which), shown.has(which)));
    return draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "tree", "aria-label": T.map },
      ...lines, ...all.map((which) => message(tree, which, shown.has(which))));
  }

  const item = (which) => home.querySelector(`[data-node="${which}"]`);
  function focus(which) {
    if (!places.has(which)) return;
    item(number)?.setAttribute("tabindex", -1);
    number = which;
    item(which).setAttribute("tabindex", 0);
    item(which).focus();
    item(which).scrollIntoView({ block: "nearest", inline: "nearest" });
    told.textContent = item(which).getAttribute("aria-label");
  }
  function key(event) {
    const tree = Glass.chat.chat, { row, column } = places.get(number), children = tree.children.get(number) || [];
    const beside = (by) => [...places].filter(([, place]) => place.row === row && Math.sign(place.column - column) === by)
      .sort(([, one], [, other]) => by * (one.column - other.column))[0]?.[0];
    const moves = { ArrowUp: () => tree.nodes[number].parent, ArrowDown: () => tree.selected[number] ?? children[0], ArrowLeft: () => beside(-1), ArrowRight: () => beside(1),
      Home: () => tree.path[0], End: () => tree.path.at(-1) };
    if (event.key === "Enter" || event.key === " ") show(number);
    else if (moves[event.key]) focus(moves[event.key]());
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function show(which) {
    dialog.close();
    Glass.chat.turnTo(which);
  }

  function open() {
    const tree = Glass.chat.chat;
    if (!tree.nodes.length) return;
    if (!dialog) {
      home = make("div", { class: "drawing", onkeydown: key });
      told = make("p", { class: "told", "aria-hidden": "true" });
      dialog = make("dialog", { id: "map", "aria-labelledby": "map-title" },
        make("header", {}, make("h2", { id: "map-title" }, T.map), button(T.close, "remove", () => dialog.close(), { class: "close" })),
        make("p", { class: "hint" }, T.map_hint), home, told);
      document.body.append(dialog);
    }
    home.replaceChildren(picture(tree));
    dialog.showModal();
    focus(tree.path.at(-1) ?? tree.children.get(ROOT)[0]);
  }

  return { open };
})();
