// The conversation in front of the person: drawn from the chat (a tree of messages, of which one path is shown) and
// from the stream of the reply that is being written. What happens here alone (walking between versions, opening another
// chat) needs no server; the rest is an event "act", handled in Python.
Glass.conversation = (() => {
  const { T, make, button, fill, say, store, textOf } = Glass;
  const empty = () => ({ nodes: [], selected: {}, revision: 0 });
  let self;

  class Conversation {
    constructor(element, props, trigger) {
      Object.assign(this, { element, props, trigger, chat: empty(), live: null, closed: 0, rows: new Map() });
      this.list = make("div", { class: "messages" });
      this.popover = new Glass.tokens.Popover(element, (event) => this.act(event));
      element.prepend(toolbar(), this.list);
      element.setAttribute("role", "region");
      element.setAttribute("aria-label", T.conversation);
      addEventListener("pagehide", () => this.save());
      new ResizeObserver(() => { if (element.checkVisibility() && this.nearEnd()) this.end(); }).observe(document.body);
      // Another tab may have changed the model.
      for (const returned of ["focus", "pageshow"]) addEventListener(returned, () => trigger("look"));
      this.open(store.read(store.current || ""));
    }

    // What the server says: the conversation with the new reply in it.
    receive() {
      if (!this.props.value) return;
      const chat = JSON.parse(this.props.value), same = chat.id === this.chat.id;
      if (same ? chat.revision <= this.chat.revision : this.chat.id) return; // from a reply that was left
      Object.assign(this, { chat, live: null });
      this.draw();
      this.end();
      if (this.streamProps) this.stream();
      store.current = chat.id;
      this.save();
      Glass.chats?.draw();
      const { model_id } = chat.nodes.findLast((node) => node.role === "assistant") || {};
      if (model_id && model_id !== this.props.welcome.model) this.trigger("look");
    }
    // What goes to the server with each event: it remembers nothing.
    get sent() { return this.chat.id ? JSON.stringify(this.chat) : ""; }
    // What this page itself makes of the conversation.
    put() {
      this.chat.revision += 1;
      this.save();
      Glass.chats?.draw();
    }
    save() {
      if (this.chat.id && !store.write(this.chat)) this.warn(T.storage_full);
    }
    open(chat) {
      this.interrupt();
      this.chat = chat || empty();
      this.rows.clear();
      store.current = this.chat.id || "";
      this.draw();
      this.end();
      Glass.chats?.draw();
    }

    // New lines of the reply.
    stream() {
      const text = this.streamProps.value || "", line = text.indexOf("\n");
      if (line < 0) return;
      if (!this.live || this.live.head !== text.slice(0, line)) {
        const head = JSON.parse(text.slice(0, line));
        if (head.run <= this.closed || head.chat !== this.chat.id || head.revision !== this.chat.revision) return;
        this.begin(head, text.slice(0, line));
      }
      const follow = this.nearEnd(), { node } = this.live;
      for (const row of text.slice(this.live.read, text.lastIndexOf("\n") + 1).split("\n")) {
        const value = row && JSON.parse(row);
        if (!value) continue;
        if (Array.isArray(value)) node.tokens.push(value);
        else if ("mark" in value) node.marks.push([node.tokens.length, value.mark]);
        else this.finish(value.end);
      }
      if (this.live) {
        this.live.read = text.lastIndexOf("\n") + 1;
        this.grow();
        if (Date.now() - this.live.saved > 1000) { this.live.saved = Date.now(); this.save(); }
      }
      if (follow) this.end();
    }
    begin(head, line) {
      const node = this.chat.nodes[head.node];
      // "broken" until it is known; so it is saved.
      Object.assign(node, { tokens: node.tokens || [], marks: node.marks || [], finish: "broken" });
      this.live = { head: line, number: head.node, node, read: line.length + 1, run: head.run, saved: Date.now() };
      this.redraw(head.node);
      this.end();
    }
    finish(end) {
      const { node, number, run } = this.live;
      this.grow();
      this.closed = run;
      this.live = null;
      Object.assign(node, { problem: "", facts: "", ...end });
      delete node.drop;
      if (end.drop && !node.tokens.length) this.drop(number);
      this.put();
      if (end.drop && !node.tokens.length) this.draw();
      else this.redraw(number);
      const words = textOf(node);
      say(`${T.reply_said} ${words.slice(0, 2000)} ${node.problem || ""} ${(node.facts || "").split(" · ").at(-1)}`);
    }
    drop(number) {
      const { nodes, selected } = this.chat, parent = nodes[number].parent;
      nodes.pop();
      delete selected[parent];
      const others = this.versions(number, parent);
      if (others.length) selected[parent] = others.at(-1);
    }
    // The reply under way is left as it stands.
    interrupt() {
      if (!this.live) return;
      const { node, run } = this.live;
      node.finish = "cancelled";
      this.closed = run;
      this.live = null;
      this.put();
    }
    lost() {
      if (!this.live) return;
      const { number, node } = this.live;
      this.interrupt();
      node.finish = "broken";
      this.save();
      this.redraw(number);
    }
    act(event) {
      if (event.do === "branch" || event.do === "retry" || event.do === "edit" || event.do === "resume" || event.do === "undo") this.interrupt();
      if (event.do === "branch") this.wanted = event.index;
      this.trigger("act", event);
    }
    leave(chat) {
      if (this.live) { this.interrupt(); this.trigger("act", { do: "leave" }); }
      this.open(chat);
      this.trigger("opened");
    }

    path() {
      const path = [];
      for (let node = this.chat.selected["-1"]; node !== undefined; node = this.chat.selected[node]) path.push(node);
      return path;
    }
    versions(number, parent = this.chat.nodes[number].parent) {
      return this.chat.nodes.flatMap((node, other) => (node.parent === parent ? [other] : []));
    }
    walk(number, by) {
      const versions = this.versions(number), to = versions[versions.indexOf(number) + by];
      if (to === undefined) return;
      if (this.live) { this.interrupt(); this.trigger("act", { do: "leave" }); }
      this.chat.selected[this.chat.nodes[number].parent] = to;
      this.put();
      this.draw();
      this.rows.get(to)?.row.querySelector(`.versions button:${by < 0 ? "first" : "last"}-of-type`)?.focus();
      say(fill(T.version_of, { now: versions.indexOf(to) + 1, all: versions.length }));
    }

    draw() {
      this.popover.hide();
      const heights = new Map([...this.rows].map(([number, { row }]) => [number, row.offsetHeight]));
      this.rows.clear();
      const path = this.path(), rows = [];
      for (const number of path) {
        if (number === this.chat.told_from) rows.push(make("p", { class: "dropped", role: "note" }, fill(T.dropped, { count: rows.length })));
        rows.push(this.message(number, heights.get(number)));
      }
      if (this.chat.told_from !== null && this.chat.told_from !== undefined)
        for (const row of rows.slice(0, rows.findIndex((row) => row.classList.contains("dropped")))) row.classList.add("forgotten");
      this.list.replaceChildren(...(rows.length ? rows : [this.welcome()]));
    }
    welcome() { return Glass.firstScreen.of(this, this.props.welcome); }
    message(number, height) {
      const node = this.chat.nodes[number], mine = node.role === "user";
      const head = make("header", {}, make("h2", {}, mine ? T.you : node.model || T.reply), this.chooser(number));
      const body = make("div", { class: "body", dir: "auto" });
      const style = height ? `contain-intrinsic-height: auto ${height}px` : null; // as long as it is out of sight
      const row = make("article", { class: `message ${node.role}`, "data-testid": mine ? "user" : "bot", "data-node": number, style }, head, body);
      this.rows.set(number, { row, body, view: null });
      if (mine) body.textContent = node.words;
      else this.reply(number);
      row.append(this.foot(number));
      return row;
    }
    redraw(number) {
      const old = this.rows.get(number);
      if (old) old.row.replaceWith(this.message(number, old.row.offsetHeight));
    }
    reply(number) {
      const node = this.chat.nodes[number], entry = this.rows.get(number), live = this.live?.number === number;
      entry.row.setAttribute("aria-busy", live);
      if (showsTokens() && node.tokens?.length) {
        entry.view = new Glass.tokens.View(entry.body, number, node, this.popover);
        if (live && this.wanted !== undefined) {
          entry.wanted = this.wanted;
          this.wanted = undefined;
          setTimeout(() => { entry.view.at(entry.wanted)?.focus(); this.popover.hide(); });
        }
      } else if (textOf(node)) entry.body.replaceChildren(...Glass.markdown(textOf(node)));
      else entry.body.append(make("span", { class: "silence" }, live ? "…" : node.problem ? "" : node.finish === "broken" ? "" : T.silent));
      if (node.problem) entry.row.append(make("p", { class: "problem" }, textOf(node) ? T.broken_off : T.no_reply, " ", node.problem));
      else if (node.finish === "broken" && !live) entry.row.append(make("p", { class: "problem" }, T.cut_off));
    }
    grow() {
      const { number, node } = this.live, entry = this.rows.get(number);
      if (!entry || !node.tokens.length) return;
      if (entry.view) entry.view.grow();
      else if (showsTokens()) {
        entry.body.replaceChildren();
        entry.view = new Glass.tokens.View(entry.body, number, node, this.popover);
      } else entry.body.replaceChildren(...Glass.markdown(textOf(node)));
    }
    chooser(number) {
      const versions = this.versions(number), at = versions.indexOf(number);
      if (versions.length < 2) return null;
      return make("span", { class: "versions", role: "group", "aria-label": T.versions },
        button(T.earlier, "earlier", () => this.walk(number, -1), { disabled: at === 0 }),
        make("span", {}, `${at + 1}/${versions.length}`),
        button(T.later, "later", () => this.walk(number, 1), { disabled: at === versions.length - 1 }));
    }
    foot(number) {
      const node = this.chat.nodes[number], live = this.live?.number === number, foot = make("footer");
      const last = this.path().at(-1) === number, add = (name, icon, act) => foot.append(button(name, icon, act));
      if (live) return foot;
      add(T.copy, "copy", () => Glass.copy(textOf(node)));
      if (node.role === "user") {
        add(T.edit, "edit", () => this.edit(number));
        add(T.undo, "undo", () => this.act({ do: "undo", node: number }));
      } else {
        add(T.retry, "retry", () => this.act({ do: "retry", node: number }));
        if (last && ["length", "cancelled", "broken", "error", "context", "time_limit", "shutdown"].includes(node.finish) && textOf(node))
          foot.append(button(T.resume, "", () => this.act({ do: "resume", node: number }), { class: "resume" }));
        if (node.facts) foot.append(make("span", { class: "facts" }, node.facts));
      }
      return foot;
    }
    edit(number) {
      const entry = this.rows.get(number), box = make("textarea", { "aria-label": T.edit, rows: 3, dir: "auto" });
      box.value = this.chat.nodes[number].words;
      const close = () => this.redraw(number);
      const submit = () => { this.act({ do: "edit", node: number, text: box.value }); close(); };
      box.addEventListener("keydown", (event) => {
        if (event.key === "Escape") close();
        else if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); submit(); }
        event.stopPropagation();
      });
      entry.body.replaceChildren(box, make("div", { class: "row" }, button(T.submit, "", submit, { class: "primary" }), button(T.cancel, "", close)));
      box.focus();
    }
    warn(words) {
      this.list.querySelector(".storage")?.remove();
      this.list.append(make("p", { class: "problem storage", role: "alert" }, words));
    }
    nearEnd() {
      const { scrollHeight, scrollTop, clientHeight } = document.scrollingElement;
      return scrollHeight - scrollTop - clientHeight < 140;
    }
    // The latest words; before there are any, the page begins at its top.
    end() {
      if (this.path().length) document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
    }
  }

  // What the tints mean, tokens or plain text, and the help.
  function toolbar() {
    return make("div", { class: "toolbar" }, Glass.tokens.legend(),
      button(T.as_tokens, "", toggleTokens, { id: "tokens-toggle", "aria-pressed": String(showsTokens()) }),
      button(T.help, "?", () => Glass.help()));
  }

  const showsTokens = () => store.setting("tokens") !== "off";
  function toggleTokens() {
    store.setting("tokens", showsTokens() ? "off" : "on");
    self.draw();
    document.querySelector("#tokens-toggle")?.setAttribute("aria-pressed", showsTokens());
    say(showsTokens() ? T.tokens_on : T.tokens_off);
  }

  return {
    mount(element, props, trigger, watch) {
      self = new Conversation(element, props, trigger);
      watch("value", () => self.receive());
      watch("welcome", () => { if (!self.path().length) self.draw(); });
      Glass.chat = self;
      if (Glass.waitingStream) Glass.conversation.mountStream(...Glass.waitingStream);
    },
    mountStream(props, watch) {
      if (!self) { Glass.waitingStream = [props, watch]; return; }
      self.streamProps = props;
      watch("value", () => self.stream());
    },
    toggleTokens, showsTokens,
  };
})();
