"""Conversations that nothing loses: versions, files, presets, several tabs, a server that is killed."""

import json

from apps import FAKE_APP, SCREENS
from playwright.sync_api import expect
from steps import (
    converse,
    questions,
    reload,
    replies,
    reply,
    send,
    set_knob,
    sidebar,
    tokens,
    version,
    wait_until_ready,
    words,
    write,
)

# Enter that takes what an input method offers.
OFFER = """(box) => ['keydown', 'keyup'].forEach((kind) => box.dispatchEvent(
    new KeyboardEvent(kind, { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })))"""


def test_retry_edit_walk_and_undo_lose_nothing_and_a_cut_reply_goes_on(page, fake):
    page.fill("#message textarea", "half a word")
    page.locator("#message textarea").evaluate(OFFER)
    converse(page, "first question")
    page.get_by_role("button", name="Take back to the box").click()
    expect(questions(page)).to_have_count(0)
    page.get_by_role("button", name="Show what was undone").click()
    expect(questions(page).locator(".body")).to_have_text(["first question"])
    page.fill("#message textarea", "")
    first = words(page).text_content()
    page.get_by_role("button", name="Retry").click()
    expect(version(page)).to_have_text("2/2")
    wait_until_ready(page)
    page.get_by_role("button", name="Edit").click()
    page.locator(".message textarea").fill("another question")
    page.locator(".message textarea").evaluate(OFFER)
    page.get_by_role("button", name="Submit").click()
    expect(questions(page)).to_have_count(1)
    expect(questions(page).locator(".versions span")).to_have_text("2/2")
    expect(questions(page)).to_contain_text("another question")
    wait_until_ready(page)
    questions(page).get_by_role("button", name="Earlier version").click()
    expect(questions(page)).to_contain_text("first question")
    reply(page).get_by_role("button", name="Earlier version").click()
    assert words(page).text_content() == first
    page.get_by_role("button", name="Take back to the box").click()
    expect(questions(page)).to_have_count(0)
    expect(page.locator("#message textarea")).to_have_value("first question")
    converse(page, "third question")
    expect(questions(page).locator(".versions span")).to_have_text("3/3")
    cut_reply_goes_on_and_a_reply_begins_as_told(page, fake)


def cut_reply_goes_on_and_a_reply_begins_as_told(page, fake):
    page.evaluate("Glass.chat.leave(null)")
    converse(page, "first question", "Length limit (40)")
    page.get_by_role("button", name="Continue").click()
    expect(tokens(page)).to_have_count(80)
    wait_until_ready(page)
    one, two = fake.ask("fake")[-2:]
    assert two["prompt"] == [*one["prompt"], *one["tokens"]]
    write(page, "Start the reply with", "Well")
    converse(page, "second question")
    expect(words(page)).to_contain_text("Well")
    expect(reply(page).locator(".forced")).to_have_count(4)


def test_a_reply_stops_at_a_text_and_its_chat_remembers_it(page):
    stops = "zebra\non\\n cat"
    write(page, "Stop sequences", stops)
    write(page, "System prompt", "Be short")
    converse(page, "Tell me more", "Stop sequence reached")
    said = "Glass.textOf(Glass.chat.chat.nodes.at(-1))"  # as it came, not as Markdown shows it
    before, count = page.evaluate(said), tokens(page).count()
    new_chat(page)
    write(page, "Stop sequences", "")
    converse(page, "Tell me more", "Length limit")
    assert count < 40 and page.evaluate(said).startswith(before + "on\n cat")
    write(page, "System prompt", "Be long")
    with sidebar(page, "library"):
        page.locator("#chats li .open").nth(1).click()
    expect(page.get_by_label("Stop sequences")).to_have_value(stops)
    expect(page.get_by_label("System prompt")).to_have_value("Be short")
    reload(page)
    expect(page.get_by_label("System prompt")).to_have_value("Be short")


def new_chat(page):
    with sidebar(page, "library"):
        page.get_by_role("button", name="New chat").click()
    expect(replies(page)).to_have_count(0)
    expect(page.locator("#message textarea")).to_be_in_viewport()  # nothing lies over the new one


# What the chats are under in the list, so many days from now.
GROUPS = """async (days) => { const midnight = Date.prototype.setHours;
    Date.prototype.setHours = function (...time) { return midnight.apply(this, time) + 86_400_000 * days; };
    await Glass.chats.draw();
    Date.prototype.setHours = midnight;
    return [...document.querySelectorAll('#chats h3')].map((title) => title.textContent); }"""


def test_chats_stay_are_deleted_on_purpose_and_leave_as_files(page, fake, open_page, tmp_path):
    converse(page, "about cats")
    new_chat(page)
    converse(page, "about dogs")
    reload(page)
    expect(questions(page)).to_contain_text("about dogs")
    other = open_page(fake, beside=page)  # another tab adds its own and overwrites none
    new_chat(other)
    converse(other, "about mice")
    page.bring_to_front()
    converse(page, "more about dogs")
    listed = page.locator("#chats li .open")
    with sidebar(page, "library"):
        expect(listed).to_have_text(["about dogs", "about mice", "about cats"])
        expect(page.locator("#chats h3")).to_have_text(["Today"])
        page.get_by_role("button", name="Rename “about mice”").click()
        page.get_by_label("Name of this chat").fill("Rodents")
        page.get_by_label("Name of this chat").press("Enter")
        expect(listed).to_have_text(["about dogs", "Rodents", "about cats"])
        page.get_by_label("Search chats").fill("rod")
        expect(listed).to_have_text(["Rodents"])
        page.get_by_label("Search chats").fill("")
        listed.nth(2).click()
        expect(questions(page)).to_have_count(1)
    expect(questions(page)).to_contain_text("about cats")
    with sidebar(page, "library"):
        page.get_by_role("button", name="Delete “about cats”").click()
        expect(listed).to_have_text(["about dogs", "Rodents"])
    expect(replies(page)).to_have_count(0)
    page.locator(".toast", has_text="Deleted “about cats”").get_by_role("button", name="Undo").click()
    expect(questions(page)).to_contain_text("about cats")
    days = [(0, "Today"), (1, "Yesterday"), (6, "Previous 7 days"), (9, "Older")]
    assert [page.evaluate(GROUPS, count) for count, _ in days] == [[name] for _, name in days]
    other.close()
    conversation_leaves_as_a_file_and_comes_back(page, tmp_path)


def conversation_leaves_as_a_file_and_comes_back(page, tmp_path):
    new_chat(page)
    converse(page, "about cats")
    page.get_by_role("button", name="Retry").click()
    expect(version(page)).to_have_text("2/2")
    wait_until_ready(page)
    with sidebar(page, "library"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Export JSON").click()
        waiting.value.save_as(tmp_path / "chat.json")
        assert waiting.value.suggested_filename == "about-cats.json"
        for _ in range(2):  # the same file again is saved again
            with page.expect_download() as waiting:
                page.get_by_role("button", name="Export Markdown").click()
        waiting.value.save_as(tmp_path / "chat.md")
    assert (tmp_path / "chat.md").read_text().startswith("**You:**\n\nabout cats\n\n**fake:**")
    new_chat(page)
    with sidebar(page, "library"):
        page.locator("#chats input[type=file]").set_input_files(tmp_path / "chat.json")
        expect(version(page)).to_have_text("2/2")
    expect(tokens(page)).to_have_count(40)
    (tmp_path / "bad.json").write_text("{}")
    page.locator("#chats input[type=file]").set_input_files(tmp_path / "bad.json")
    expect(page.locator("#status")).to_contain_text("not a conversation exported from this page")


ASKED = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "one"}]
MESSAGES = [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "two"}]}]
SHAREGPT = [{"from": "human", "value": "one"}, {"from": "gpt", "value": "two"}]
TOKEN = [7, " two", 0.5, None, [[7, " two", 0.5, 0.9], [8, " too", 0.3, 0.1]], 1]
OWN = {
    "format": "glass-llama/1",
    "nodes": [
        {"role": "user", "parent": -1, "words": "one"},
        {"role": "assistant", "parent": 0, "tokens": [TOKEN], "finish": "stop", "model": "m", "key": "not taken"},
    ],
    "selected": {"-1": 0, "0": 1},
    "system": "Be brief",
}
READ = """(text) => {
    const said = (node) => [node.role, node.key === 'not taken', Glass.textOf(node).trim()];
    try { return Glass.files.read(text).map((tree) => [tree.system, tree.path, tree.nodes.map(said)]); }
    catch (problem) { return problem.message; } }"""


def test_files_of_this_page_and_of_other_programs_are_read_and_all_else_is_refused(fake, open_page):
    page = open_page(fake)
    turns = [["user", False, "one"], ["assistant", False, "two"]]
    for value in (OWN, {"messages": MESSAGES}, MESSAGES, {"conversations": SHAREGPT}, {"conversation": SHAREGPT}):
        one, system = json.dumps(value), "Be brief" if "Be brief" in json.dumps(value) else ""
        for count, text in ((1, one), (1, json.dumps(value, indent=2)), (2, f"[{one}, {one}]"), (2, f"{one}\n{one}\n")):
            assert page.evaluate(READ, text) == [[system, [0, 1], turns]] * count
    many = {"format": "glass-llama/chats/1", "chats": [OWN, OWN, OWN]}
    assert len(page.evaluate(READ, json.dumps(many))) == 3

    changes = [
        ("nodes", []), ("nodes", {}), ("selected", {"0": 0}), ("told_from", 2), ("system", 3),
        ("role", "system"), ("parent", 1), ("parent", -2), ("parent", "0"), ("words", 3), ("finish", ["stop"]),
        ("tokens", [["7", " two", 0.5, 0.5]]), ("tokens", [[7, " two", "0.5", 0.5]]), ("tokens", [[7, " two", 2, 0.5]]),
        ("tokens", [[7, " two", 0.5, 0.5, [[7, {}, 0.5, 0.9]]]]),
        ("tokens", [[7, " two", 0.5, 0.5, [TOKEN[4][0]] * 21]]),
    ]  # fmt: skip
    bad = ["", "{}", "[]", "not json", '{"format": "other", "nodes": []}', '{"messages": []}', "[" * 100_000, "null"]
    bad += ['{"messages": [{"role": "tool", "content": "x"}]}', '{"messages": [{"role": "user", "content": 3}]}']
    bad += ['[{"role": "system", "content": "alone"}]', f"{json.dumps(OWN)}\n{{"]
    for field, value in changes:
        of_chat = field in ("nodes", "selected", "told_from", "system")
        nodes = [OWN["nodes"][0], OWN["nodes"][1] | {field: value}]
        bad.append(json.dumps(OWN | ({field: value} if of_chat else {"nodes": nodes})))
    for text in bad:
        assert "not a conversation exported from this page" in str(page.evaluate(READ, text)), text


def test_presets_are_saved_by_name_and_without_chats_none_is_exported(page):
    with sidebar(page, "library"):
        page.get_by_role("button", name="Export JSON").click()
    expect(page.locator(".toast")).to_contain_text("No chats yet")
    set_knob(page, "Temperature", 1.55)
    write(page, "System prompt", "Be brief")
    write(page, "Stop sequences", "The end")
    with sidebar(page, "settings"):
        page.get_by_role("button", name="Manage presets").click()
        page.get_by_label("Name of a new preset").fill("Mine")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.locator("#preset-said")).to_contain_text("Saved as “Mine”")
    reload(page)
    expect(page.get_by_label("number input for Temperature")).to_have_value("1.55")  # also without the preset
    set_knob(page, "Temperature", 0.7)
    with sidebar(page, "settings"):
        page.get_by_label("Preset", exact=True).click()
        page.get_by_role("option", name="Mine").click()
        expect(page.get_by_label("number input for Temperature")).to_have_value("1.55")
        expect(page.get_by_label("System prompt")).to_have_value("Be brief")
        expect(page.get_by_label("Stop sequences")).to_have_value("The end")


def test_a_full_storage_is_said_in_words_and_what_waited_is_kept_later(fake, open_page):
    page = open_page(fake)
    page.evaluate("""() => { window.put = IDBObjectStore.prototype.put;
        IDBObjectStore.prototype.put = function () { this.transaction.abort(); }; }""")
    converse(page, "one")
    expect(page.get_by_role("alert")).to_contain_text("storage is full")
    page.evaluate("() => { IDBObjectStore.prototype.put = window.put; }")
    converse(page, "two")
    reload(page)
    expect(questions(page).locator(".body")).to_have_text(["one", "two"])
    expect(tokens(page)).to_have_count(40)


def test_a_killed_server_takes_nothing_with_it(start_app, open_page):
    first = start_app(program=(*FAKE_APP[:2], "60"))  # slow: what is cut off has to fit into the context
    pages = [open_page(first, *look) for look in SCREENS.values()]
    for page in pages:
        set_knob(page, "Max tokens", 2000)
        send(page, "one")
    for page in pages:
        expect(tokens(page).nth(300)).to_be_attached()
    first.process.kill()
    first.process.wait(20)
    counts = [tokens(page).count() for page in pages]
    for page in pages:
        expect(page.locator(".toast")).to_have_text("Server lost, reconnecting…")
    again = start_app(program=(FAKE_APP[0], first.url.rpartition(":")[2], FAKE_APP[2]))
    for page, count in zip(pages, counts, strict=True):
        expect(reply(page)).to_contain_text("The reply was cut off.")
        kept = tokens(page).count()
        assert kept >= count  # some may have been on their way
        set_knob(page, "Max tokens", 20)
        converse(page, "two")  # without a reload
        assert len(again.ask("fake")[-1]["prompt"]) > kept  # the cut reply was told
        reload(page)
        expect(questions(page)).to_have_count(2)
        expect(replies(page).first.locator(".tok")).to_have_count(kept)
        expect(tokens(page)).to_have_count(20)
