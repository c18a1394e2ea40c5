"""The pictures of README.md and docs/tour.md, taken with `pytest --screenshots`; whoever takes them looks at each.

The words are those of SmolLM2-135M-Instruct: see tests/checkpoint/gguf/test_gguf_real_model.py for the file that the
variable SMOLLM2_GGUF names."""

import io
import os
from pathlib import Path

import pytest
from apps import ROOT, SCREENS
from PIL import Image
from playwright.sync_api import expect
from steps import ask_otherwise, converse, is_phone, replies, set_knob, tokens, version, wait_until_ready, write

PATH = Path(os.environ.get("SMOLLM2_GGUF", "SMOLLM2_GGUF is not set"))
LOOKS = {"desk": SCREENS["desktop light"], "phone": SCREENS["phone dark"], "desk-dark": (1280, 800, "dark")}
PAGES = [ROOT / "README.md", ROOT / "docs" / "tour.md"]
NEXT = "Name three uses of glass"


@pytest.fixture(scope="module")
def model(request, start_app):
    if not request.config.getoption("--screenshots"):
        pytest.skip("pictures are taken with --screenshots")
    if not PATH.is_file():
        pytest.skip(f"no file {PATH}")
    return start_app("--model", str(PATH), "--slots", "2", "--max-seq-len", "1024")


@pytest.mark.parametrize("look", list(LOOKS))
def test_pictures(model, open_page, look):
    page = open_page(model, *LOOKS[look], device_scale_factor=2)
    take(page, f"first-{look}")
    set_knob(page, "Max tokens", 120)
    set_knob(page, "Temperature", 0.7)
    write(page, "Seed", "3")
    converse(page, "Write a Python function that adds two numbers, and explain it in one sentence")
    page.mouse.move(0, 0)
    take(page, f"reply-{look}")
    page.evaluate("Glass.chat.leave(null)")
    converse(page, "Why is the sky blue?")
    show_a_word(page)
    take(page, f"word-{look}")
    page.locator(".odds button:not([aria-current])").first.click()
    wait_until_ready(page)
    grow(page)
    page.get_by_role("button", name="Map of this chat").click()
    take(page, f"map-{look}")
    page.keyboard.press("Escape")
    compare(page)
    take(page, f"sides-{look}")


def show_a_word(page):
    """The panel of the first word of which the model was unsure."""
    number = page.evaluate(
        "Glass.chat.chat.nodes.at(-1).tokens.findIndex(([, text, share], i) => i > 8 && share < 0.4)"
    )
    tokens(page).nth(number).click()
    expect(page.locator(".odds button")).not_to_have_count(0)


def grow(page):
    """A chat of several branches."""
    if not is_phone(page):
        page.keyboard.press("Escape")
    set_knob(page, "Max tokens", 60)
    converse(page, NEXT)
    ask_otherwise(page, "Name three colours of the sky")
    replies(page).last.get_by_role("button", name="Retry").click()
    expect(version(page)).to_have_text("2/2")
    wait_until_ready(page)


def compare(page):
    page.evaluate("Glass.chat.leave(null)")
    page.fill("#message textarea", "Tell me a very short story about a lighthouse")
    page.get_by_role("button", name="Compare two replies").click()
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator(".sides .keep")).to_have_count(2)
    page.locator(".sides").scroll_into_view_if_needed()


def take(page, name):
    """If one of the pages shows it."""
    if any(f"{name}.webp" in text.read_text(encoding="utf-8") for text in PAGES):
        picture = Image.open(io.BytesIO(page.screenshot()))
        picture.save(ROOT / "docs" / f"{name}.webp", quality=80, method=6)
