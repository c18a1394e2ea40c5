// The chats of a file: one or many exported from this page (with all versions and tokens), `{"messages": [...]}`, a bare
// list of messages, ShareGPT's `{"conversations": [{"from", "value"}]}`, or a list of these, as JSON or one a line. A file
// is never trusted: every field that is taken has its kind, and no other is taken.
Glass.files = (() => {
  const { T, Tree } = Glass;
  const OWN = "glass-llama/1", OWN_LIST = "glass-llama/chats/1", TURNS = ["messages", "conversations", "conversation"];
  // What other programs call who speaks: OpenAI's messages, and ShareGPT's turns.
  const ROLES = new Map([...["user", "human"].map((name) => [name, "user"]), ...["system", "developer"].map((name) => [name, "system"]),
    ...["assistant", "gpt", "model", "chatgpt", "bot"].map((name) => [name, "assistant"])]);

  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const isText = (value) => typeof value === "string";
  const isNumber = (value) => Number.isInteger(value) && value >= 0;
  const isShare = (value) => typeof value === "number" && value >= 0 && value <= 1;
  const isList = (value, each, most = Infinity) => Array.isArray(value) && value.length <= most && value.every(each);
  const isAlternative = (row) => isList(row, () => true, 4) && isNumber(row[0]) && isText(row[1]) && isShare(row[2]) && isShare(row[3]);
  const isToken = (row) => isList(row, () => true, 6) && isNumber(row[0]) && isText(row[1]) &&
    [row[2], row[3]].every((share) => share === null || isShare(share)) && isList(row[4] ?? [], isAlternative, 20);
  const isMark = (row) => isList(row, () => true, 2) && isNumber(row[0]) && isText(row[1]);
  // What the fields of a message hold; those that are not named here hold text.
  const KINDS = { role: (name) => name === "user" || name === "assistant", tokens: (rows) => isList(rows, isToken), marks: (rows) => isList(rows, isMark) };

  const refuse = () => { throw new Error(T.import_form); };
  const check = (holds) => holds || refuse();
  const optional = (value, kind, other) => (value === undefined || value === null ? other : check(kind(value)) && value);

  function own(value) {
    check(isList(value.nodes, isObject) && value.nodes.length);
    const nodes = value.nodes.map((node, number) => {
      check(node.role !== undefined && Number.isInteger(node.parent) && node.parent >= -1 && node.parent < number);
      const fields = Tree.FIELDS.filter((name) => node[name] !== undefined);
      return { parent: node.parent, ...Object.fromEntries(fields.map((name) => [name, check((KINDS[name] || isText)(node[name])) && node[name]])) };
    });
    const selected = optional(value.selected, isObject, {});
    for (const [parent, child] of Object.entries(selected)) check(isNumber(child) && String(nodes[child]?.parent) === parent);
    const [system, stop, name] = ["system", "stop", "name"].map((field) => optional(value[field], isText, ""));
    return Tree.from({ nodes, selected, told_from: optional(value.told_from, (node) => isNumber(node) && node < nodes.length, null), system, stop, name });
  }

  const turnsOf = (value) => (Array.isArray(value) ? value : isObject(value) && TURNS.map((name) => value[name]).find(Array.isArray));
  function said(turn) {
    check(isObject(turn));
    const role = ROLES.get(String(turn.role ?? turn.from).toLowerCase()), content = turn.content ?? turn.value;
    // OpenAI's parts, of which the texts are taken.
    const words = Array.isArray(content) ? content.map((part) => part?.text ?? "").join("") : content;
    return check(role && isText(words)) && { role, words };
  }
  function foreign(value) {
    const turns = (turnsOf(value) || []).map(said), spoken = turns.filter(({ role }) => role !== "system");
    check(spoken.length);
    const nodes = spoken.map((turn, number) => ({ ...turn, parent: number - 1 }));
    const selected = Object.fromEntries(nodes.map(({ parent }, number) => [parent, number]));
    return Tree.from({ nodes, selected, system: turns.filter(({ role }) => role === "system").map(({ words }) => words).join("\n\n") });
  }

  // What in a value of the file is one chat each.
  function chatsOf(value) {
    if (value?.format === OWN_LIST) return check(Array.isArray(value.chats)) && value.chats;
    const isMany = Array.isArray(value) && value.every((row) => turnsOf(row) || row?.format === OWN);
    return isMany ? value : [value];
  }
  function valuesOf(text) {
    try { return [JSON.parse(text)]; } catch { /* perhaps a value a line */ }
    try { return text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line)); } catch { return refuse(); }
  }

  return {
    // Trees with ids of their own. Throws an Error with the sentence for the person.
    read(text) {
      const trees = valuesOf(text).flatMap(chatsOf).map((value) => (value?.format === OWN ? own(value) : foreign(value)));
      return check(trees.length) && trees;
    },
  };
})();
