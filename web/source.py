"""Our own code as a page with numbered lines, so that a control can link to the line that computes it."""

from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("llama_core",)

STYLE = """
:root { color-scheme: light dark; font: 14px/1.6 ui-monospace, monospace; }
body { margin: 0; padding: 1rem; } h1 { font: 600 1.1rem system-ui, sans-serif; }
ol { padding-left: 4rem; } li { white-space: pre-wrap; padding-left: .5rem; } li:target { background: #f5d90a55; }
"""


def read_lines(name: str) -> list[str]:
    """The lines of one of our files."""
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def source_page(name: str) -> str | None:
    """The page of one of our files, such as "llama_core/sampling/sampler.py"; None for any other name."""
    known = {str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    if name not in known:
        return None
    rows = "".join(f'<li id="L{i}">{escape(line) or " "}</li>' for i, line in enumerate(read_lines(name), 1))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<main><h1>{escape(name)}</h1><ol>{rows}</ol></main></html>"
    )
