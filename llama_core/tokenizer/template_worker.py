"""The process in which a chat template runs. A template is a program by a stranger: here it has Jinja's immutable
sandbox, little memory, no files to write and no secrets in the environment, and `templates.py` ends it after a while.

Started by its path, so it imports nothing of ours. Speaks lines of JSON: first the template, then lists of
conversations; each is answered by one line with `texts`, or with what went wrong under `refused` or `failed`.
"""

import contextlib
import datetime
import json
import sys
from collections.abc import Iterator
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_MEMORY = 512 * 1024**2
MAX_CHARACTERS = 16 * 1024**2


class Generation(Extension):
    """`{% generation %}` marks replies for training (transformers, utils/chat_template_utils.py); here it is no more
    than its content."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        """The block's statements."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as chat templates on the Hub expect it (transformers, utils/chat_template_utils.py)."""
    jinja = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    jinja.intercepted_binops = frozenset(jinja.default_binop_table)  # none is worked out ahead, while compiling
    jinja.filters["tojson"] = _to_json
    jinja.globals["raise_exception"] = _refuse
    return jinja


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _render_all(template: jinja2.Template, several: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"texts": [_render(template, **values) for values in several]}
    except jinja2.TemplateError as problem:
        return {"refused": str(problem)}
    except MemoryError:
        return {"failed": f"it needs more than {MAX_MEMORY >> 20} MiB of memory"}
    except Exception as problem:  # a template can divide by zero, index past an end, call what is not callable
        return {"failed": f"{type(problem).__name__}: {problem}"}


def _render(template: jinja2.Template, now: str, **values: Any) -> str:
    template.environment.globals["strftime_now"] = datetime.datetime.fromisoformat(now).strftime
    return "".join(_bounded(template.generate(**values)))


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise ValueError(f"it writes more than {MAX_CHARACTERS} characters")
        yield piece


def _limit_resources() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the time limit holds there too
        return
    for kind, limit in ((resource.RLIMIT_AS, MAX_MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS has the first in name only
            resource.setrlimit(kind, (limit, limit))


def main() -> None:
    """Answer until the input ends."""
    _limit_resources()
    try:
        template = environment().from_string(json.loads(sys.stdin.readline()))
    except Exception as problem:  # deep nesting is a RecursionError
        print(json.dumps({"refused": str(problem)}), flush=True)
        return
    print(json.dumps({"texts": []}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_render_all(template, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
