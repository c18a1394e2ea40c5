// A conversation: a tree of messages, of which one path is shown. A message has a `key` of its own for ever, by which it
// is kept, so what two tabs add comes together; its number is its place in the list of this tab, after its parent's.
Glass.Tree = (() => {
  const ROOT = -1;
  // What a message is made of, as the server and the storage have it. Its role comes first: so it is read fast.
  const FIELDS = ["role", "words", "tokens", "marks", "finish", "problem", "facts", "seed", "model", "model_id"];
  const isThere = (value) => value !== undefined && value !== "" && !(Array.isArray(value) && !value.length);
  const only = (node, fields) => Object.fromEntries(fields.filter((name) => isThere(node[name])).map((name) => [name, node[name]]));

  let last = 0;
  const moment = () => (last = Math.max(last + 1, Date.now())); // no two messages of a tab have the same
  const newKey = () => [...crypto.getRandomValues(new Uint8Array(9))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  class Tree {
    constructor(id = "") {
      Object.assign(this, { id, nodes: [], selected: {}, told_from: null, system: "", stop: "", name: "" });
      Object.assign(this, { children: new Map(), dirty: new Set(), turned: new Set() });
    }
    // From a file, or from the server: parents by number.
    static from({ id, nodes, selected = {}, told_from = null, system = "", stop = "", name = "" }) {
      const tree = Object.assign(new Tree(id || newKey()), { told_from, system, stop, name });
      for (const node of nodes) tree.add(node);
      for (const [parent, child] of Object.entries(selected)) tree.select(Number(parent), child);
      return tree;
    }
    static newKey = newKey;
    static FIELDS = FIELDS;

    add(node) {
      const number = this.nodes.push({ key: newKey(), at: moment(), ...node }) - 1;
      this.enlist(number);
      this.dirty.add(number);
      return number;
    }
    enlist(number) {
      const { parent } = this.nodes[number], family = this.children.get(parent) || [];
      this.children.set(parent, [...family, number].sort((a, b) => this.nodes[a].at - this.nodes[b].at));
    }
    change(number, values) {
      Object.assign(this.nodes[number], values);
      this.dirty.add(number);
    }
    select(parent, child) {
      if (child === undefined) delete this.selected[parent];
      else this.selected[parent] = child;
      this.turned.add(parent);
    }
    // The last message, of which nothing has come.
    drop(number) {
      const { parent } = this.nodes[number];
      const others = this.versions(number).filter((other) => other !== number);
      this.children.set(parent, others);
      this.change(number, { dropped: true });
      if (this.selected[parent] === number) this.select(parent, others.at(-1));
    }

    // The numbers of the messages that are shown, oldest first.
    get path() {
      const path = [];
      for (let node = this.selected[ROOT]; node !== undefined; node = this.selected[node]) path.push(node);
      return path;
    }
    // A message and those before it, whatever is shown.
    until(number) {
      const path = [];
      for (let node = number; node !== ROOT; node = this.nodes[node].parent) path.unshift(node);
      return path;
    }
    versions(number) { return this.children.get(this.nodes[number].parent) || []; }
    // Which version, counted from 1, has the same words as this later one; 0 if none has.
    sameAs(number) {
      const versions = this.versions(number), words = Glass.textOf(this.nodes[number]);
      return 1 + versions.slice(0, versions.indexOf(number)).findIndex((other) => Glass.textOf(this.nodes[other]) === words);
    }
    // What would follow the last message that is shown, but was taken back.
    get undone() { return this.children.get(this.path.at(-1) ?? ROOT) || []; }
    get title() {
      const first = this.path.map((number) => this.nodes[number]).find((node) => node.role === "user") || this.nodes[0];
      return (first ? Glass.textOf(first) : "").trim().replace(/\s+/g, " ").slice(0, 80);
    }

    // What the server needs for a prompt: the messages of `path` with their words, and of the message `whole` all.
    toServer(path, whole, request) {
      const nodes = path.map((number, place) => {
        const node = this.nodes[number];
        const plain = { role: node.role, words: Glass.textOf(node), model: node.model, model_id: node.model_id };
        return { ...only(number === whole ? node : plain, FIELDS), parent: place - 1 };
      });
      const selected = Object.fromEntries(path.map((_, place) => [place - 1, place]));
      const told = path.indexOf(this.told_from), { id, system, stop } = this;
      return JSON.stringify({ format: "glass-llama/1", id, request, system, stop, told_from: told < 0 ? null : told, selected, nodes });
    }
    // Everything, as a file has it.
    toFile() {
      const { id, system, stop, name, selected, told_from } = this;
      const nodes = this.nodes.map((node) => ({ ...only(node, FIELDS), parent: node.parent }));
      return { format: "glass-llama/1", id, name, system, stop, told_from, selected, nodes };
    }

    // What was changed since the last time, by keys, for the storage.
    takeChanges() {
      const keyOf = (number) => this.nodes[number]?.key ?? "";
      const messages = [...this.dirty].map((number) => {
        const node = this.nodes[number], { key, at, dropped } = node;
        return { chat: this.id, key, at, parent: keyOf(node.parent), ...only(node, FIELDS), ...(dropped && { dropped }) };
      });
      const shown = [...this.turned].map((parent) => [keyOf(parent), keyOf(this.selected[parent])]);
      const taken = { numbers: [...this.dirty], turned: [...this.turned] };
      this.dirty.clear();
      this.turned.clear();
      const { system, stop, title } = this;
      return { messages, shown, facts: { system, stop, title, told_from: keyOf(this.told_from) }, taken };
    }
    // They could not be kept.
    giveBack({ numbers, turned }) {
      for (const number of numbers) this.dirty.add(number);
      for (const parent of turned) this.turned.add(parent);
    }
    // From the storage, also what another tab has put there meanwhile. What this tab is writing stays as it is here. Of
    // what is shown, what this tab has not chosen otherwise is taken. Whether anything is new.
    absorb(messages, shown, facts = {}) {
      const numbers = new Map(this.nodes.map((node, number) => [node.key, number])).set("", ROOT);
      let rows = [...messages].sort((a, b) => a.at - b.at), isNew = false;
      for (let left = Infinity; rows.length < left;) {
        left = rows.length;
        rows = rows.filter((row) => !numbers.has(row.parent) || void (isNew = this.take(row, numbers) || isNew));
      }
      for (const [parent, child] of shown) {
        const [at, to] = [numbers.get(parent), numbers.get(child)];
        if (at === undefined || !(to >= 0) || this.selected[at] !== undefined || this.nodes[to].dropped) continue;
        this.selected[at] = to;
        isNew = true;
      }
      for (const [name, value] of Object.entries(facts)) this[name] = name === "told_from" ? numbers.get(value) ?? null : value;
      if (this.told_from === ROOT) this.told_from = null;
      return isNew;
    }
    take({ chat, parent, ...node }, numbers) {
      const known = numbers.get(node.key);
      if (known === undefined) {
        const number = this.nodes.push({ ...node, parent: numbers.get(parent) }) - 1;
        numbers.set(node.key, number);
        if (!node.dropped) this.enlist(number);
        return true;
      }
      const mine = this.nodes[known];
      if (this.dirty.has(known) || mine.live || JSON.stringify(only(mine, FIELDS)) === JSON.stringify(only(node, FIELDS))) return false;
      this.nodes[known] = { ...node, parent: mine.parent };
      return true;
    }
  }
  return Tree;
})();
