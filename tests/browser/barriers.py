"""What axe-core finds."""

from axe_playwright_python.sync_playwright import Axe

RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


def look_for_barriers(page):
    """With axe, in light and in dark."""
    found = []
    for theme in ("light", "dark"):
        page.evaluate("theme => document.body.classList.toggle('dark', theme === 'dark')", theme)
        broken = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]}).response["violations"]
        found += [(theme, rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in broken]
    assert found == []
