"""What axe-core finds, and what it does not look for: pictures that look alike."""

import io

from axe_playwright_python.base import AXE_SCRIPT
from PIL import Image

RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
OF_COLOURS = ["color-contrast", "link-in-text-block"]  # all others find the same in both themes
FIND = """async ([theme, runOnly]) => { document.body.classList.toggle('dark', theme === 'dark');
    const { violations } = await axe.run({ runOnly, resultTypes: ['violations'] });
    return violations.map(({ id, nodes }) => [theme, id, nodes.map(({ html }) => html.slice(0, 200))]); }"""


def look_for_barriers(page):
    """With axe, in light and in dark."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    assert page.evaluate(FIND, ["light", RULES]) == []
    assert page.evaluate(FIND, ["dark", {"type": "rule", "values": OF_COLOURS}]) == []


def slider_contrasts(slider):
    """Of a slider that stands between a quarter and a half: the filled part to the empty one, the edge of the track and
    the thumb to what is around them."""
    picture = Image.open(io.BytesIO(slider.screenshot())).convert("RGB")
    column = [[picture.getpixel((round(picture.width * x), y)) for y in range(picture.height)] for x in (0.1, 0.8)]
    filled, empty = (pixels[picture.height // 2] for pixels in column)
    beside = column[1][0]
    thumb = [picture.getpixel((x, picture.height // 2)) for x in range(picture.width // 4, picture.width // 2)]
    return [
        contrast(filled, empty),
        max(contrast(pixel, beside) for pixel in column[1]),
        max(contrast(pixel, empty) for pixel in thumb),
    ]


def contrast(one, other):
    """As WCAG 2.2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
