// What was asked of the server and what comes back: each request with its conversation, whichever is shown meanwhile.
// A request is answered by the messages that are new (or by why there are none); then its reply is written, line by line.
Glass.Replies = class {
  // `view` is told what has changed.
  constructor(view) { Object.assign(this, { view, requests: new Map(), last: 0 }); }

  // A request about the messages `path` of a conversation, of which `whole` with all its tokens. As it is sent.
  request(tree, path, whole, asked = {}) {
    const number = this.last = Math.max(this.last + 1, Date.now());
    if (asked.replies) this.requests.set(number, { ...asked, number, tree, path, live: null });
    return tree.toServer(path, whole, number);
  }
  // The first that is not ended.
  of(tree) { return [...this.requests.values()].find((request) => request.tree === tree); }
  tree(id) { return [...this.requests.values()].find((request) => request.tree.id === id)?.tree; }

  answered({ request: number, problem, field, first, nodes, told_from, system, stop }) {
    number ||= [...this.requests].find(([, request]) => !request.numbers)?.[0]; // one that could not be read
    const request = this.requests.get(number);
    if (!request) return; // it was left for another one
    if (problem !== undefined) {
      this.requests.delete(number);
      this.view.refused(request, problem, field);
      return;
    }
    const { tree } = request, numbers = request.numbers = [...request.path];
    nodes.forEach((node, place) => {
      const known = numbers[first + place], parent = node.parent < 0 ? -1 : numbers[node.parent];
      if (known === undefined) numbers.push(tree.add({ ...node, parent }));
      else tree.change(known, { words: "", tokens: [], finish: "", problem: "", facts: "", ...node, parent });
      tree.select(parent, numbers[first + place]);
    });
    tree.change(numbers.at(-1), { finish: "broken", live: true }); // until it is known; so it is kept
    Object.assign(tree, { told_from: told_from === null ? null : numbers[told_from], system, stop });
    this.view.asked(request);
  }

  // New lines of a reply.
  stream(text) {
    const line = text.indexOf("\n");
    if (line < 0) return;
    const { request: number, node } = JSON.parse(text.slice(0, line)), request = this.requests.get(number);
    if (!request?.numbers) return;
    request.live ||= this.begin(request, request.numbers[node], line + 1);
    const { live, tree } = request, until = text.lastIndexOf("\n") + 1;
    for (const row of text.slice(live.read, until).split("\n")) {
      const value = row && JSON.parse(row);
      if (!value) continue;
      if (Array.isArray(value)) live.node.tokens.push(value);
      else if ("mark" in value) live.node.marks.push([live.node.tokens.length, value.mark]);
      else { this.finish(number, value.end); return; }
    }
    live.read = until;
    tree.dirty.add(live.number);
    this.view.grown(request);
    if (Date.now() - live.saved > 1000) { live.saved = Date.now(); setTimeout(() => this.view.save(tree)); } // drawing was long enough
  }
  begin(request, number, read) {
    const { tree } = request, node = tree.nodes[number];
    tree.change(number, { tokens: node.tokens || [], marks: node.marks || [] });
    const live = request.live = { number, node, read, saved: Date.now() };
    this.view.begun(request);
    return live;
  }
  finish(number, { drop, ...end }) {
    const request = this.requests.get(number), { tree, live } = request;
    this.view.grown(request);
    this.end(number, { problem: "", facts: "", ...end });
    if (drop && !live.node.tokens.length) tree.drop(live.number);
    this.view.finished(request, Boolean(drop));
  }
  end(number, values) {
    const { tree, numbers } = this.requests.get(number);
    this.requests.delete(number);
    if (numbers) tree.change(numbers.at(-1), { live: false, ...values });
  }
  // The replies under way in a conversation are left as they stand; for one of two side by side not the other.
  interrupt(tree, side) {
    const isOther = (request) => side && request.side && request.side !== side;
    for (const [number, request] of this.requests) if (request.tree === tree && !isOther(request)) this.end(number, { finish: "cancelled" });
  }
  // The server went away: what has come stays, and what was not begun is in the box still.
  lost() {
    for (const [number, request] of [...this.requests]) {
      this.end(number, { finish: "broken" });
      this.view.finished(request, false);
    }
  }
};
