"""The process in which a chat template runs. A template is a program by a stranger: here it has Jinja's immutable
sandbox, little memory, no way to write files and no secrets in the environment. `template_process.py` starts it and
kills it when it takes too long.

It is started by its path and imports nothing of ours, so it starts fast. It speaks lines of JSON: first the template's
source, then lists of contexts. Each line is answered by one line: `texts`, or what went wrong under `refused` (the
template's own refusal) or `failed`.
"""

import contextlib
import datetime
import json
import sys
from collections.abc import Iterator

import jinja2
import jinja2.nodes
import jinja2.parser
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_MEMORY = 512 * 1024**2
MAX_CHARACTERS = 16 * 1024**2


class GenerationTag(Extension):
    """`{% generation %}` marks replies for training (transformers, utils/chat_template_utils.py). Here the tag does
    nothing: it is replaced by its content."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The statements between the tag and its end."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as chat templates on the Hub expect it (transformers, utils/chat_template_utils.py)."""
    jinja = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", GenerationTag]
    )
    # Jinja computes constant expressions such as 10 ** 10 ** 9 while it compiles, for which the worker has a minute.
    # Intercepted operators wait until rendering, for which it has seconds.
    jinja.intercepted_binops = frozenset(jinja.default_binop_table)
    jinja.filters["tojson"] = _to_json
    jinja.globals["raise_exception"] = _refuse
    return jinja


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _render_all(template: jinja2.Template, contexts: list[dict[str, object]]) -> dict[str, list[str] | str]:
    try:
        return {"texts": [_render(template, context) for context in contexts]}
    except jinja2.TemplateError as problem:
        return {"refused": str(problem)}
    except MemoryError:
        return {"failed": f"it needs more than {MAX_MEMORY >> 20} MiB of memory"}
    except Exception as problem:  # a template can divide by zero, index past an end, call what is not callable
        return {"failed": f"{type(problem).__name__}: {problem}"}


def _render(template: jinja2.Template, context: dict[str, object]) -> str:
    variables = dict(context)
    now = datetime.datetime.fromisoformat(str(variables.pop("now")))
    template.environment.globals["strftime_now"] = now.strftime
    return "".join(_bounded(template.generate(**variables)))


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
        with contextlib.suppress(ValueError, OSError):  # macOS accepts no RLIMIT_AS
            resource.setrlimit(kind, (limit, limit))


def main() -> None:
    """Answer requests until standard input ends."""
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
