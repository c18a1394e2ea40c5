"""A chat as one HTML file that opens without the app."""

from pathlib import Path

from playwright.sync_api import expect
from steps import converse, sidebar, tokens

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"></style><b>"


def test_a_chat_as_a_page_has_its_words_tints_and_alternatives_and_runs_nothing(page, look, tmp_path):
    converse(page, HOSTILE)
    said = page.evaluate("Glass.textOf(Glass.chat.chat.nodes.at(-1))")  # the file has the words as they came
    tints = page.evaluate(
        "Glass.chat.chat.nodes.at(-1).tokens.filter(([, text, p]) => text && p >= 0.1 && p < 0.3).length"
    )
    share = tokens(page).nth(3).get_attribute("aria-label").split(" ", 1)[1]
    with sidebar(page, "library"), page.expect_download() as download:
        page.get_by_role("button", name="Export page").click()
    file = Path(tmp_path / "chat.html")
    download.value.save_as(file)
    assert "Content-Security-Policy" in file.read_text() and "<script" not in file.read_text()

    alone = page.context.new_page()
    asked, colour = [], "light" if look[2] == "light" else "dark"
    alone.on("request", lambda request: asked.append(request.url))
    alone.emulate_media(color_scheme=colour)
    alone.goto(file.as_uri())
    expect(alone.locator(".user .said")).to_have_text(HOSTILE)
    assert alone.title() == HOSTILE[:80] and asked == [file.as_uri()]
    assert alone.locator("b, img, script").count() == 0
    shown = "els => els.map((el) => el.firstChild.data).join('')"
    assert alone.locator(".tok").evaluate_all(shown) == said
    assert alone.locator(".t3").count() == tints
    word = alone.locator(".tok").nth(3)
    word.click()
    expect(word.locator(".others")).to_be_visible()
    expect(word.locator(".others .own").last).to_have_text(share)
    box = word.locator(".others").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= alone.viewport_size["width"]
    alone.close()
