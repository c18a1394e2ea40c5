// The conversation in front of the person: drawn from the chat (a tree of messages, of which one path is shown) and
// from the replies that are being written. What happens here alone (walking between versions, undoing, opening another
// chat) needs no server; the rest is an event "act", handled in Python.
Glass.conversation = (() => {
  const { T, make, button, fill, say, store, textOf, Tree } = Glass;
  const waiting = []; // streams that were mounted before
  let self;

  class Conversation extends Glass.Messages {
    constructor(element, props, trigger) {
      super(element, new Tree());
      Object.assign(this, { props, trigger, outbox: [], streams: [] });
      this.replies = new Glass.Replies(this);
      this.sides = new Glass.Sides(this);
      history.scrollRestoration = "manual"; // the latest words are shown, also after a reload
      element.prepend(toolbar(), this.list);
      element.setAttribute("role", "region");
      element.setAttribute("aria-label", T.conversation);
      for (const left of ["pagehide", "visibilitychange"]) addEventListener(left, () => this.saveAll());
      new ResizeObserver(() => { if (element.checkVisibility() && this.nearEnd()) this.end(); }).observe(document.body);
      // Another tab may have changed the model.
      for (const returned of ["focus", "pageshow"]) addEventListener(returned, () => trigger("look"));
      this.ready = store.read(store.current).then((chat) => { if (!this.chat.id) this.show(chat || new Tree()); });
      store.onnews = (news) => this.hear(news);
    }

    // To the server goes with each event what it needs to know: it remembers nothing.
    ask(text) {
      if (this.busy || !text?.trim()) return ["", null]; // the words stay in the box
      this.chat.id ||= Tree.newKey();
      const words = this.joined(text);
      return [words, this.sending({ do: "ask", text: words })];
    }
    // A model that was not trained to chat: the messages are the parts of one text, which it continues.
    get isText() { return Boolean(this.props.welcome.continues); }
    get text() { return this.chat.path.map((number) => textOf(this.chat.nodes[number])).join(""); }
    // What is added to a text does not run into its last word.
    joined(words) {
      const runsOn = this.isText && /[^\s\p{Lo}]$/u.test(this.text) && /^[\p{L}\p{N}]/u.test(words) && !/^\p{Lo}/u.test(words);
      return runsOn ? ` ${words}` : words;
    }
    // Whether the model can go on without another word.
    get canGoOn() { return this.isText && !this.busy && this.chat.nodes[this.chat.path.at(-1)]?.role === "assistant"; }
    goOn() { this.act({ do: "resume", node: this.chat.path.at(-1) }); }
    sending(event) {
      const path = event.node === undefined ? this.chat.path : this.chat.until(event.node);
      const replies = ["ask", "edit", "retry", "branch", "resume"].includes(event.do);
      if (replies) this.replies.interrupt(this.chat, event.side);
      const sent = this.replies.request(this.chat, path, event.node, { ...event, replies });
      this.showButtons();
      return sent;
    }
    act(event) {
      if (event.do === "ask") this.chat.id ||= Tree.newKey();
      this.outbox.push(this.sending(event));
      if (event.do === "branch") {
        this.wanted = event.index;
        this.rows.get(event.node)?.view?.at(event.index)?.focus(); // until the branch is there
        this.tip.hide();
      }
      const node = event.node === undefined ? undefined : this.chat.until(event.node).length - 1;
      this.trigger("act", node === undefined ? event : { ...event, node });
    }
    get live() { return this.replies.of(this.chat)?.live; }
    get busy() { return Boolean(this.replies.of(this.chat)); }
    showButtons() { this.trigger("running"); }
    lost() {
      this.replies.lost();
      Glass.toasts.lost();
      this.showButtons();
    }

    // What `Replies` tells.
    refused({ tree, do: what }, problem, field) {
      if (!tree.nodes.length) tree.id = "";
      if (tree === this.chat) Glass.status.problem(problem, field);
      else Glass.toasts.say(problem);
      if (what === "ask") Glass.composer?.focus();
      this.showButtons();
    }
    asked(request) {
      const { tree } = request;
      if (tree === this.chat) this.sides.asked(request);
      this.save(tree);
      if (tree === this.chat) {
        store.current = tree.id;
        if (request.do === "ask") Glass.composer.sent(request.text.trim());
        this.entitle();
        this.draw();
        this.end();
      }
      for (const { value } of this.streams) if (value) this.replies.stream(value);
      const { model_id } = tree.nodes.findLast((node) => node.role === "assistant") || {};
      if (model_id && model_id !== this.props.welcome.model) this.trigger("look");
    }
    begun({ tree, live }) {
      if (tree !== this.chat) return;
      this.redraw(live.number);
      this.end();
      this.showButtons();
    }
    grown({ tree, live }) {
      if (tree !== this.chat) return;
      const follow = this.nearEnd();
      this.grow(live);
      if (follow) this.end();
    }
    finished({ tree, live }, isDropped) {
      this.save(tree);
      if (tree === this.chat) {
        const follow = this.nearEnd();
        if (isDropped || !live) this.draw();
        else this.redraw(live.number);
        if (follow) this.end();
        this.showButtons();
      }
      if (!live) return;
      const { node } = live, words = `${T.reply_said} ${textOf(node).slice(0, 2000)} ${node.problem || ""}`;
      say(`${words} ${(node.facts || "").split(" · ").at(-1)}`);
    }

    async save(tree = this.chat) {
      if (!tree.id || !tree.nodes.length) return;
      try {
        await store.write(tree);
        if (store.isForbidden) this.warn(T.storage_forbidden);
      } catch { this.warn(T.storage_full); }
      Glass.chats?.draw();
    }
    saveAll() {
      for (const tree of new Set([this.chat, ...[...this.replies.requests.values()].map(({ tree }) => tree)]))
        if (tree.dirty.size || tree.turned.size) this.save(tree);
    }
    // Another tab has changed something.
    async hear({ chat, gone, writing = [] }) {
      Glass.chats?.draw();
      if (chat !== this.chat.id) return;
      if (gone) { this.forget(); return; }
      const isNew = await store.refresh(this.chat);
      for (const node of this.chat.nodes) if (writing.includes(node.key)) node.elsewhere = Date.now();
      if (writing.length) setTimeout(() => this.draw(), 1000 * Glass.Messages.ELSEWHERE_SECONDS + 100);
      const follow = this.nearEnd();
      if (isNew) this.draw();
      if (isNew && follow) this.end();
    }

    // Another chat, or with null a new one. A reply that is being written in the old one goes on there.
    leave(chat) {
      const tree = !chat ? new Tree() : chat instanceof Tree ? chat : Tree.from(chat);
      this.show(this.replies.tree(tree.id) || tree);
      this.trigger("opened");
      this.showButtons();
      Glass.composer?.focus();
    }
    show(chat) {
      this.chat = chat;
      this.sides.close();
      this.rows.clear();
      store.current = chat.id;
      this.draw();
      this.end();
      Glass.status.of(chat.id);
      Glass.chats?.draw();
      this.entitle();
    }
    entitle() {
      const title = this.chat.name || this.chat.title;
      document.title = title ? `${title} · ${T.app}` : T.app;
    }
    rename(name) {
      this.chat.name = name;
      this.entitle();
    }
    // The chat in front was deleted.
    forget() {
      this.replies.interrupt(this.chat);
      this.chat = new Tree();
      this.leave(null);
    }
    undo(number) {
      const { parent, words } = this.chat.nodes[number];
      if (this.busy) document.querySelector("#message .stop-button")?.click();
      this.chat.select(parent, undefined);
      this.save();
      Glass.composer.put(words);
      this.draw();
    }
    redo() {
      const { path, undone } = this.chat;
      this.chat.select(path.at(-1) ?? -1, undone.at(-1));
      this.save();
      this.draw();
      this.end();
    }
    // The model's words as the person has them: one more version, from which the chat or the reply itself can go on.
    rewrite(number, text) {
      const { parent, model } = this.chat.nodes[number];
      this.chat.select(parent, this.chat.add({ role: "assistant", parent, words: text, model, facts: T.rewritten }));
      this.save();
      this.draw();
    }
    // A message is shown, wherever in the tree it stands.
    turnTo(number) {
      for (const which of this.chat.until(number)) this.chat.select(this.chat.nodes[which].parent, which);
      this.save();
      this.draw();
      this.drawFar(number);
      const { row } = this.rows.get(number);
      row.scrollIntoView({ block: "nearest" });
      row.querySelector("footer button")?.focus({ preventScroll: true });
    }
    walk(number, by) {
      const versions = this.chat.versions(number), to = versions[versions.indexOf(number) + by];
      if (to === undefined) return;
      this.chat.select(this.chat.nodes[number].parent, to);
      this.save();
      this.draw();
      this.rows.get(to)?.row.querySelector(`.versions button:${by < 0 ? "first" : "last"}-of-type`)?.focus();
      say(fill(T.version_of, { now: versions.indexOf(to) + 1, all: versions.length }));
    }

    warn(words) {
      this.element.querySelector(".storage")?.remove();
      this.list.after(make("p", { class: "problem storage", role: "alert" }, words));
    }
    nearEnd() { return Glass.latest.isNear(); }
    // The latest words; before there are any, the page begins at its top.
    end() {
      if (this.chat.path.length) Glass.latest.show();
    }
  }

  // What the tints mean, which words have them, and the help.
  function toolbar() {
    return make("div", { class: "toolbar" }, Glass.tokens.legend(),
      Glass.colours.chooser(),
      button(T.map, "map", () => Glass.map.open()), button(T.help, "?", () => Glass.help()));
  }

  return {
    mount(element, props, trigger, watch) {
      self = new Conversation(element, props, trigger);
      watch("value", () => { if (props.value) self.replies.answered(JSON.parse(props.value)); });
      watch("welcome", () => { if (!self.chat.path.length || self.list.classList.contains("text") !== self.isText) self.draw(); });
      Glass.chat = self;
      for (const stream of waiting) Glass.conversation.mountStream(...stream);
    },
    mountStream(props, watch) {
      if (!self) { waiting.push([props, watch]); return; }
      self.streams.push(props);
      watch("value", () => self.replies.stream(props.value || ""));
    },
  };
})();
