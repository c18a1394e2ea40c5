"""Our own code as a page with numbered lines, so that a control can point at the lines that compute it."""

import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("llama_core",)

STYLE = """
:root { color-scheme: light dark; font: 14px/1.6 ui-monospace, monospace; }
body { margin: 0; padding: 1rem; } h1 { font: 600 1.1rem system-ui, sans-serif; }
ol { padding-left: 4rem; } li { white-space: pre-wrap; padding-left: .5rem; } li:target { background: #f5d90a55; }
"""


def code_of(knob: str) -> tuple[str, int]:
    """File and line where a sampling control does its work: in the distribution, else where the turns are taken, else
    where it is declared."""
    sampling = _lines("llama_core/sampling/sampler.py")
    begin = next((i for i, line in enumerate(sampling) if line.startswith("def distribution(")), 0)
    order = [*range(begin, len(sampling)), *range(begin)]
    places = [("llama_core/sampling/sampler.py", i, sampling[i]) for i in order]
    places += [
        ("llama_core/engine/scheduler.py", i, line) for i, line in enumerate(_lines("llama_core/engine/scheduler.py"))
    ]
    for path, i, line in places:
        if re.search(rf"\b(knobs|params)\.{knob}\b", line):
            return path, i + 1
    declared = _lines("llama_core/sampling/params.py")
    return "llama_core/sampling/params.py", 1 + next(i for i, line in enumerate(declared) if f" {knob}: " in line)


def _lines(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def source_page(name: str) -> str | None:
    """The page of one of our files, such as "llama_core/sampling/sampler.py"; None for any other name."""
    known = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    if name not in known:
        return None
    rows = "".join(f'<li id="L{i}">{escape(line) or " "}</li>' for i, line in enumerate(_lines(name), 1))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<main><h1>{escape(name)}</h1><ol>{rows}</ol></main></html>"
    )
