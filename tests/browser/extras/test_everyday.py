"""What every chat page has: files in the message, the way back to the latest words, the model's words changed, the
same seed again, sampling reset, and light or dark as one likes."""

from playwright.sync_api import expect
from steps import converse, questions, reload, reply, set_knob, sidebar, tokens, version, wait_until_ready, words, write

REST = "document.scrollingElement.scrollHeight - document.scrollingElement.scrollTop - innerHeight"
SCROLL = "top => { document.scrollingElement.scrollTop = top; }"


def test_changed_words_the_same_seed_and_the_latest_words(page, fake):
    page.set_viewport_size({**page.viewport_size, "height": 480})
    set_knob(page, "Max tokens", 400)
    write(page, "Seed", "7")
    converse(page, "Tell me", "Length limit (400)")
    write(page, "Seed", "")
    first = words(page).text_content()
    latest = page.get_by_role("button", name="Jump to latest")
    expect(latest).to_be_hidden()
    page.evaluate(SCROLL, 0)
    latest.click()
    expect(latest).to_be_hidden()
    expect(reply(page).locator(".facts")).to_be_in_viewport()

    the_same_seed_again(page, fake, latest)

    reply(page).get_by_role("button", name="Change the words").click()
    page.locator(".message textarea").fill("Quite another answer")
    page.get_by_role("button", name="Submit").click()
    expect(version(page)).to_have_text("3/3")
    expect(words(page)).to_have_text("Quite another answer")
    before = fake.ask("fake")[-1]
    converse(page, "And then?", "Length limit (400)")
    after = fake.ask("fake")[-1]["prompt"]
    assert after[: len(before["prompt"])] == before["prompt"]  # the cache has what stands before the changed words
    assert after[len(before["prompt"]) :][:10] != before["tokens"][:10]
    reload(page)
    expect(page.locator("#conversation [data-testid=bot]").first).to_contain_text("Quite another answer")
    page.get_by_role("button", name="Earlier version").click()
    page.get_by_role("button", name="Earlier version").click()
    expect(questions(page)).to_have_count(1)
    assert words(page).text_content() == first


def the_same_seed_again(page, fake, latest):
    """The same words; the page follows them, until one scrolls up."""
    fake.ask("fake/pace/100", post=True)
    reply(page).locator("summary").click()
    reply(page).get_by_role("button", name="Again with seed 7").click()
    expect(version(page)).to_have_text("2/2")
    expect(tokens(page).nth(300)).to_be_attached()
    expect(latest).to_be_hidden()  # the page follows the words
    page.mouse.wheel(0, -70)
    expect(latest).to_be_visible()
    fake.ask("fake/pace/300", post=True)
    wait_until_ready(page)
    expect(latest).to_be_visible()  # a small way up is enough to stay there
    assert page.evaluate(REST) >= 70
    latest.click()
    expect(reply(page)).to_contain_text("Same words as version 1")


def test_changed_words_are_continued_files_a_theme_and_reset_sampling(page, fake, tmp_path):
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    converse(page, "Tell me")
    reply(page).get_by_role("button", name="Change the words").click()
    page.locator(".message textarea").fill("Well")
    page.get_by_role("button", name="Submit").click()
    expect(words(page)).to_have_text("Well")
    page.get_by_role("button", name="Continue").click()
    expect(tokens(page)).to_have_count(44)  # four of the word, one a letter, and 40 new ones
    wait_until_ready(page)
    assert len(fake.ask("fake")[-1]["prompt"]) == len(fake.ask("fake")[-2]["prompt"]) + 4
    attach_files(page, tmp_path)
    box = page.locator("#message textarea")
    unsent = box.input_value()

    was = page.evaluate("document.body.classList.contains('dark')")
    with sidebar(page, "library"):
        page.get_by_label("Theme").select_option("light" if was else "dark")
    reload(page)
    assert page.evaluate("document.body.classList.contains('dark')") is not was
    expect(box).to_have_value(unsent)  # also after the choice of another language, which loads the page again
    assert "svg" in page.request.get(f"{page.url.split('?')[0]}favicon.ico").headers["content-type"]

    sampling_is_reset(page)
    box.press("Enter")
    expect(box).to_have_value("")
    wait_until_ready(page)
    question = questions(page).last.locator(".body")
    assert question.bounding_box()["height"] < 300
    page.get_by_role("button", name="Show all").click()
    assert question.bounding_box()["height"] > 700


def sampling_is_reset(page):
    number = page.get_by_label("number input for Temperature")
    with sidebar(page, "settings"):
        start = number.input_value()
    set_knob(page, "Temperature", 1.9)
    set_knob(page, "Top-k", 7)
    with sidebar(page, "settings"):
        page.get_by_role("button", name="Reset all sampling").click()
        expect(number).to_have_value(start)
        expect(page.get_by_label("number input for Top-k")).to_have_value("0")


# A file that is let go over the page.
DROP = """(text) => { const data = new DataTransfer();
    data.items.add(new File([text], 'more.txt', { type: 'text/plain' }));
    document.querySelector('#conversation').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true,
        cancelable: true })); }"""


def attach_files(page, tmp_path):
    """One that is text, one that is none, one that is too large, and one that is dropped."""
    (tmp_path / "notes.md").write_text("# Notes\n```\ncode\n```\n")
    (tmp_path / "photo.txt").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "big.py").write_text("#" * 400_001)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Attach a text file").click()
    chooser.value.set_files([tmp_path / name for name in ("notes.md", "photo.txt", "big.py")])
    expect(page.locator(".toast")).to_have_count(2)
    box, notes = page.locator("#message textarea"), "notes.md:\n````\n# Notes\n```\ncode\n```\n````\n"
    expect(box).to_have_value(notes)
    lines = "line\n" * 30
    page.evaluate(DROP, lines)
    expect(box).to_have_value(f"{notes}\nmore.txt:\n```\n{lines}```\n")
