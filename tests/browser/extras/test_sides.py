"""Two replies to one question, side by side: each with its own settings, and one of them kept."""

import re

import pytest
from playwright.sync_api import expect
from steps import converse, is_phone, questions, reload, replies, reply, set_knob, version, wait_until_ready, words


def field(page, name, at):
    return page.locator(".sides").get_by_label(name).nth(at)


def columns(page):
    """The texts of the two replies, and of each the words that are underlined."""
    return page.evaluate("""() => [...document.querySelectorAll('.sides .body')].map((body) => {
        const tokens = [...body.querySelectorAll('.tok')], marked = (token) => token.matches('.differs');
        return [body.innerText, tokens.map((token) => marked(token) ? token.textContent : ' ').join('')]; })""")


def words_of(text):
    return re.findall(r"\w+|[^\w\s]", text)


def are_where_they_belong(page):
    """One under the other on a phone, beside each other at a desk; asked of one moment: the page may scroll."""
    (x, y), (next_x, next_y) = page.evaluate("""() => [...document.querySelectorAll('.sides .column')]
        .map((column) => column.getBoundingClientRect()).map(({ x, y }) => [x, y])""")
    return (x == next_x and y < next_y) if is_phone(page) else (x < next_x and y == next_y)


def longest_common(one, other):
    lengths = {}
    for i, word in enumerate(one):
        for j, rival in enumerate(other):
            same = lengths.get((i - 1, j - 1), 0) + 1 if word == rival else 0
            lengths[i, j] = max(same, lengths.get((i - 1, j), 0), lengths.get((i, j - 1), 0))
    return lengths[len(one) - 1, len(other) - 1]


@pytest.fixture
def slow(fake):
    fake.ask("fake/pace/2", post=True)
    yield
    fake.ask("fake/pace/300", post=True)


def open_with_keys(page, text):
    page.fill("#message textarea", text)
    page.locator("#message .attach").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # on the button beside it
    expect(page.locator(".sides input:focus")).to_have_count(1)


def test_two_replies_are_compared_and_one_is_kept_or_both_are_left_alone(page, fake, slow):
    two_replies_are_written_together_and_one_is_kept(page, fake)
    page.evaluate("Glass.chat.leave(null)")
    expect(questions(page)).to_have_count(0)
    two_replies_are_wanted_first_and_left_alone(page)


def two_replies_are_written_together_and_one_is_kept(page, fake):
    set_knob(page, "Max tokens", 100)
    open_with_keys(page, "Tell me")
    assert field(page, "Seed", 0).input_value() != field(page, "Seed", 1).input_value()
    assert field(page, "Temperature", 0).input_value() == "0.7"
    field(page, "Temperature", 1).fill("1.3")
    field(page, "Seed", 0).fill("1")
    field(page, "Seed", 1).fill("2")
    field(page, "Seed", 1).press("Enter")
    expect(page.locator(".sides [aria-busy=true] .tok[data-i='1']")).to_have_count(2)  # both at once
    expect(page.locator(":focus")).to_have_attribute("pattern", "[0-9]*")
    left, right = fake.ask("fake")[-2:]
    assert left["prompt"] == right["prompt"]
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_until_ready(page, "Stopped")
    assert all(one["ended"] and len(one["tokens"]) < 100 for one in fake.ask("fake")[-2:])

    fake.ask("fake/pace/300", post=True)
    page.get_by_role("button", name="Ask both").click()  # the box is empty: the last question again
    for number in (3, 4):  # the messages after the question and its first two replies
        expect(page.locator(f".sides [data-node='{number}'] .keep")).to_have_count(1)
    expect(page.locator(".sides [role=status]")).to_contain_text("Underlined")
    expect(page.locator(":focus")).to_have_text("Ask both")
    (first, first_marked), (second, second_marked) = (map(words_of, column) for column in columns(page))
    common = longest_common(first, second)
    assert 0 < len(first_marked) == len(first) - common and len(second_marked) == len(second) - common
    assert are_where_they_belong(page)

    page.locator(".sides .keep").last.press("Enter")
    expect(page.locator(".sides")).to_have_count(0)
    expect(reply(page).locator("footer button:focus")).to_have_count(1)
    expect(version(page)).to_have_text("4/4")
    assert words_of(words(page).inner_text()) == second
    converse(page, "And then?")
    prompt = bytes(value - 15 for value in fake.ask("fake")[-1]["prompt"] if value >= 15).decode()
    assert words_of(prompt)[2 : 2 + len(second)] == second  # after "Tell me"
    reload(page)
    expect(replies(page).first.locator(".versions span")).to_have_text("4/4")


def two_replies_are_wanted_first_and_left_alone(page):
    page.get_by_role("button", name="Compare two replies").click()
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator("#status")).to_contain_text("Write a message first")
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".sides .keep")).to_have_count(2)
    expect(questions(page).locator(".body")).to_have_text(["Hello"])
    page.keyboard.type("And on")  # the focus is still in the box; this goes on from the first reply
    first = columns(page)[0][0]
    page.keyboard.press("Enter")
    expect(page.locator(".sides")).to_have_count(0)
    expect(replies(page)).to_have_count(2)
    assert replies(page).first.locator(".body").inner_text() == first
    wait_until_ready(page)

    page.evaluate("Glass.chat.props.welcome.slots = 1")
    set_knob(page, "Temperature", 0)
    page.get_by_role("button", name="Compare two replies").click()
    expect(page.locator(".sides")).to_contain_text("one reply at a time")
    assert [field(page, "Temperature", at).input_value() for at in (0, 1)] == ["0", "1"]
    page.keyboard.press("Escape")
    expect(page.locator(".sides")).to_have_count(0)
    expect(page.locator(":focus")).to_have_attribute("aria-label", "Compare two replies")
