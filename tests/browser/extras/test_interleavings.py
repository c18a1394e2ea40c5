"""Two tabs of one browser write, delete, reload and close in any order: nothing is lost, the deleted stays so."""

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect
from steps import questions, reload, send, wait_until_ready

DOINGS = ["write", "ask", "ask and reload", "new chat", "open latest", "delete", "reload", "close"]
WRITES = DOINGS[:3]  # most of what is done
KINDS = st.one_of(st.sampled_from(WRITES), st.sampled_from(DOINGS))
STEPS = st.lists(st.tuples(st.integers(0, 1), KINDS), min_size=4, max_size=7)

NOW = "Glass.chat.chat.id"
LAST_REPLY = "Glass.textOf(Glass.chat.chat.nodes[Glass.chat.chat.path.at(-1)])"
# Chat → its messages as [words of the question, words of the reply], whichever version is shown.
KEPT = """async () => { const found = {};
    for (const { id } of await Glass.store.list()) { const tree = await Glass.store.read(id);
        found[id] = tree.nodes.filter(({ role }) => role === 'assistant')
            .map((node) => [Glass.textOf(tree.nodes[node.parent]), Glass.textOf(node)]); }
    return found; }"""


class TwoTabs:
    """Two pages of one browser, and what has to be found in the end: chat → question → reply, or None where nobody
    waited for its end."""

    def __init__(self, first, open_tab):
        self.open_tab, self.tabs = open_tab, [first, open_tab()]
        self.written, self.deleted, self.count = {}, set(), 0

    def begin(self):
        """Another example: only what is written from now on counts."""
        self.written, self.deleted = {}, set()
        for place in (0, 1):
            self.new_chat(place)

    def do(self, place, doing):
        self.tabs[place].bring_to_front()
        getattr(self, doing.replace(" ", "_"))(place)

    def write(self, place):
        chat, words = self.ask(place)
        wait_until_ready(self.tabs[place])
        if self.tabs[place].evaluate(NOW) == chat:  # it was not deleted by the other tab meanwhile
            self.written[chat][words] = self.tabs[place].evaluate(LAST_REPLY)

    def ask(self, place):
        page = self.tabs[place]
        expect(page.locator("#message .submit-button")).to_be_visible()  # no reply is under way here
        self.count += 1
        words = f"question {self.count}"
        send(page, words)
        chat = page.evaluate(NOW)
        self.written.setdefault(chat, {})[words] = None
        return chat, words

    def ask_and_reload(self, place):
        """At once, in the middle of the reply."""
        self.ask(place)
        self.reload(place)

    def new_chat(self, place):
        page = self.tabs[place]
        page.locator("#chats .new").click()
        expect(questions(page)).to_have_count(0)

    def open_latest(self, place):
        page = self.tabs[place]
        latest = page.locator("#chats li[data-chat]").first
        if latest.count():
            chat = latest.get_attribute("data-chat")
            latest.locator(".open").click()
            page.wait_for_function("chat => Glass.chat.chat.id === chat", arg=chat)

    def delete(self, place):
        page = self.tabs[place]
        chat = page.evaluate(NOW)
        if chat:
            page.locator(f'#chats li[data-chat="{chat}"] .delete').click()
            self.deleted.add(chat)
            for tab in self.tabs:
                expect(tab.locator(f'#chats li[data-chat="{chat}"]')).to_have_count(0)
                tab.wait_for_function("chat => Glass.chat.chat.id !== chat", arg=chat)

    def reload(self, place):
        reload(self.tabs[place])

    def close(self, place):
        self.tabs[place].close()
        self.tabs[place] = self.open_tab()

    def check(self):
        """What a page that was opened anew finds."""
        self.reload(0)
        kept = self.tabs[0].evaluate(KEPT)
        assert self.deleted.isdisjoint(kept)
        for chat in self.written.keys() - self.deleted:
            found = dict(kept[chat])
            assert self.written[chat].keys() <= found.keys()
            for words, reply in self.written[chat].items():
                assert reply is None or found[words] == reply


def test_two_tabs_lose_nothing_in_whatever_order(fake, open_page, request):
    first = open_page(fake, 1600, 900)  # the list of chats is open
    two = TwoTabs(first, lambda: open_page(fake, beside=first))
    count = request.config.getoption("--interleavings")

    @settings(
        max_examples=max(1, count),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate] if count else [Phase.explicit],  # to shrink would take minutes
    )
    @example(
        [(0, "ask and reload"), (1, "open latest"), (1, "ask"), (0, "write"), (1, "close")]
        + [(0, "new chat"), (0, "write"), (0, "delete")]
    )
    @given(STEPS)
    def check(steps):
        two.begin()
        for place, doing in steps:
            two.do(place, doing)
        two.check()

    fake.ask("fake/pace/60", post=True)
    check()
    fake.ask("fake/pace/300", post=True)
    assert two.count > 0
