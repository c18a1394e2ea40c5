"""Conversations that nothing loses: versions, files, presets, several tabs, a server that is killed."""

from playwright.sync_api import expect
from steps import (
    OLD_TALK,
    converse,
    questions,
    replies,
    reply,
    send,
    set_knob,
    tokens,
    version,
    wait_until_ready,
    words,
)


def test_retry_edit_walk_and_undo_lose_nothing(wide):
    converse(wide, "first question")
    first = words(wide).text_content()
    wide.get_by_role("button", name="Retry").click()
    expect(version(wide)).to_have_text("2/2")
    wait_until_ready(wide)
    wide.get_by_role("button", name="Edit").click()
    wide.locator(".message textarea").fill("another question")
    wide.get_by_role("button", name="Submit").click()
    expect(questions(wide)).to_have_count(1)
    expect(questions(wide)).to_contain_text("another question")
    wait_until_ready(wide)
    questions(wide).get_by_role("button", name="Earlier version").click()
    expect(questions(wide)).to_contain_text("first question")
    reply(wide).get_by_role("button", name="Earlier version").click()
    assert words(wide).text_content() == first
    wide.get_by_role("button", name="Undo").click()
    expect(questions(wide)).to_have_count(0)
    expect(wide.locator("#message textarea")).to_have_value("first question")
    converse(wide, "third question")
    expect(questions(wide).locator(".versions span")).to_have_text("3/3")


def test_a_cut_reply_goes_on_and_a_reply_begins_as_told(wide, fake):
    converse(wide, "first question", "reached the limit of 40")
    wide.get_by_role("button", name="Continue").click()
    expect(tokens(wide)).to_have_count(80)
    wait_until_ready(wide)
    one, two = fake.ask("fake")[-2:]
    assert two["prompt"] == [*one["prompt"], *one["tokens"]]
    wide.get_by_label("Start the reply with").fill("Well")
    converse(wide, "second question")
    expect(words(wide)).to_contain_text("Well")
    expect(reply(wide).locator(".forced")).to_have_count(4)


def test_chats_stay_in_the_browser_and_are_deleted_on_purpose(wide, fake, open_page):
    converse(wide, "about cats")
    wide.get_by_role("button", name="New chat").click()
    expect(replies(wide)).to_have_count(0)
    converse(wide, "about dogs")
    wide.reload()
    wide.wait_for_function("window.Glass?.chat")
    expect(questions(wide)).to_contain_text("about dogs")
    other = open_page(fake, beside=wide)  # another tab adds its own and overwrites none
    other.get_by_role("button", name="New chat").click()
    converse(other, "about mice")
    converse(wide, "more about dogs")
    listed = wide.locator("#chats li .open")
    expect(listed).to_have_text(["about dogs", "about mice", "about cats"])
    listed.nth(2).click()
    expect(questions(wide)).to_contain_text("about cats")
    wide.get_by_role("button", name="Delete “about cats”").click()
    expect(listed).to_have_count(3)
    wide.locator("#chats").get_by_role("button", name="Delete", exact=True).click()
    expect(listed).to_have_text(["about dogs", "about mice"])
    expect(replies(wide)).to_have_count(0)


def test_a_conversation_leaves_as_a_file_and_comes_back(wide, tmp_path):
    converse(wide, "about cats")
    wide.get_by_role("button", name="Retry").click()
    expect(version(wide)).to_have_text("2/2")
    wait_until_ready(wide)
    with wide.expect_download() as waiting:
        wide.get_by_role("button", name="Export JSON").click()
    waiting.value.save_as(tmp_path / "chat.json")
    assert waiting.value.suggested_filename == "about-cats.json"
    for _ in range(2):  # the same file again is saved again
        with wide.expect_download() as waiting:
            wide.get_by_role("button", name="Export Markdown").click()
    waiting.value.save_as(tmp_path / "chat.md")
    assert (tmp_path / "chat.md").read_text().startswith("**You:**\n\nabout cats\n\n**fake:**")
    wide.get_by_role("button", name="New chat").click()
    wide.locator("#chats input[type=file]").set_input_files(tmp_path / "chat.json")
    expect(version(wide)).to_have_text("2/2")
    expect(tokens(wide)).to_have_count(40)
    (tmp_path / "bad.json").write_text("{}")
    wide.locator("#chats input[type=file]").set_input_files(tmp_path / "bad.json")
    expect(wide.locator("#status")).to_contain_text("not a conversation exported from this page")


def test_presets_are_saved_by_name(wide):
    set_knob(wide, "Temperature", 1.55)
    wide.get_by_label("System prompt").fill("Be brief")
    wide.get_by_role("button", name="Save or delete presets").click()
    wide.get_by_label("Name of a new preset").fill("Mine")
    wide.get_by_role("button", name="Save", exact=True).click()
    expect(wide.locator("#preset-said")).to_contain_text("Saved as “Mine”")
    wide.reload()
    wide.wait_for_function("window.Glass?.chat")
    expect(wide.get_by_label("number input for Temperature")).to_have_value("0.7")
    wide.get_by_label("Preset", exact=True).click()
    wide.get_by_role("option", name="Mine").click()
    expect(wide.get_by_label("number input for Temperature")).to_have_value("1.55")
    expect(wide.get_by_label("System prompt")).to_have_value("Be brief")


def test_a_full_browser_drops_the_probabilities_of_older_chats_and_no_words(wide):
    wide.evaluate(f"Glass.store.write(({OLD_TALK})())")
    wide.evaluate("""() => { let i = 0; for (const size of [50000, 500])
        try { for (;;) localStorage.setItem('junk' + i++, 'x'.repeat(size)); } catch {} }""")
    converse(wide, "one more")
    older, newer = wide.evaluate("[Glass.store.read('old'), Glass.store.read(Glass.chat.chat.id)]")
    assert older["nodes"][1]["words"] == " word" * 100 and "tokens" not in older["nodes"][1]
    assert len(newer["nodes"][1]["tokens"]) == 40


def test_a_killed_server_takes_nothing_with_it(start_app, open_page):
    program = "tests/browser/fake_app.py"
    first = start_app(program=(program, "0", "300"))
    page = open_page(first)
    set_knob(page, "Max tokens", 2000)
    send(page, "one")
    expect(tokens(page).nth(300)).to_be_attached()
    first.process.kill()
    first.process.wait(20)
    count = tokens(page).count()
    again = start_app(program=(program, first.url.rpartition(":")[2], "300"))
    expect(reply(page)).to_contain_text("The reply was cut off.")
    set_knob(page, "Max tokens", 20)
    converse(page, "two")  # without a reload
    assert len(again.ask("fake")[-1]["prompt"]) > count  # the cut reply was told
    page.reload()
    page.wait_for_function("window.Glass?.chat")
    expect(questions(page)).to_have_count(2)
    expect(replies(page).first.locator(".tok")).to_have_count(count)
    expect(tokens(page)).to_have_count(20)
