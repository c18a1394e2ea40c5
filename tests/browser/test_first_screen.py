"""The first screen stands still, and has examples. (That of the guide: test_page.py.)"""

import pytest
from playwright.sync_api import expect
from steps import replies

# How much the page has moved by itself (Layout Instability API); Google calls 0.1 good.
SHIFT = """() => new Promise((done) => { let sum = 0; new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
}).observe({type: 'layout-shift', buffered: true}); setTimeout(() => done(sum), 600); })"""


@pytest.mark.parametrize("width", [390, 1280, 1600])
def test_nothing_moves_by_itself_and_sidebars_are_as_they_were_left(fake, open_page, width):
    page = open_page(fake, width, 900)
    assert page.evaluate(SHIFT) < 0.05
    expect(page.locator(".examples button")).to_have_count(4)
    expect(page.get_by_role("button", name="Load a larger model")).to_have_count(0)  # the guide alone offers it
    toggles = [page.get_by_role("button", name=name, exact=True) for name in ("Chats", "Settings")]
    for toggle in toggles:
        expect(toggle).to_have_attribute("aria-expanded", str(width >= 1500).lower())
    toggles[0].click()
    page.reload()
    page.wait_for_selector("html.settled")
    left_open = width == 1280
    expect(toggles[0]).to_have_attribute("aria-expanded", str(left_open).lower())
    expect(replies(page)).to_have_count(0)
