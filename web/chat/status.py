"""The line under the conversation: how fast the words come, and in words why they ended. Small pieces of safe HTML."""

import re
from html import escape

from llama_core.engine import Engine
from llama_core.engine.request import Request
from web.strings import TEXT

# An absolute path, on Windows too; not the path of a URL, no marker </s>, and not the second half of "tokens/s".
PATH = re.compile(r"(?<![\w:/.~<])~?(?:/[^\s/'\"(),;:<>]+)+/?|\b[A-Za-z]:(?:\\[^\s\\'\"(),;:]+)+\\?")


def line(*parts: str) -> str:
    """Plain texts side by side, as HTML."""
    return " ".join(f"<span>{escape(part)}</span>" for part in parts if part)


def problem(text: str) -> str:
    """Something the person has to know before asking again."""
    return f'<span class="problem">{escape(sentence(text))}</span>'


def sentence(text: str) -> str:
    """Errors begin in lower case, to stand after others' words; alone they are sentences. A name stays as it is."""
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def without_paths(text: str) -> str:
    """The text with the last part of each absolute path in its place: where things lie is nobody else's business."""
    return PATH.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)


def bar(words: str, done: int, total: int) -> str:
    """How far something is, as a bar and in words."""
    percent = round(100 * done / max(1, total))
    return (
        f'<div class="progress" role="progressbar" aria-label="{escape(words)}" aria-valuenow="{percent}" '
        f'aria-valuemin="0" aria-valuemax="100"><b style="width:{percent}%"></b></div>{line(words)}'
    )


def of_engine(engine: Engine) -> str:
    """While no reply is written: ready, or how many programs are compiled."""
    if engine.ready:
        return line(TEXT["ready"])
    if not engine.healthy:
        return problem(TEXT["not_ready"])
    done, total = engine.compiled
    return bar(TEXT["getting_ready" if total else "getting_ready_soon"].format(done=done, total=total), done, total)


def waiting(request: Request, engine: Engine) -> str:
    """Before the first token: the engine gets ready, the request waits in the queue, or its prompt is prefilled."""
    if not engine.ready:
        return of_engine(engine)
    place = request.queue_position
    return line(TEXT["in_line"].format(place=place) if place else TEXT["waiting"])


def facts(request: Request, is_warm: bool) -> list[str]:
    """Speed, time to first token and sizes of a request, as far as they are known. Not `is_warm`: it waited for
    programs to be compiled, which says nothing about how fast it is."""
    speed, first, count = request.tokens_per_second, request.time_to_first_token, len(request.token_ids)
    prompt = TEXT["prompt"].format(count=request.prompt_tokens)
    if request.cached_tokens:
        prompt += TEXT["cached"].format(count=request.cached_tokens)
    return [
        TEXT["speed"].format(speed=speed) if speed else "",
        TEXT["first"].format(seconds=first) if first is not None and is_warm else "",
        TEXT["tokens_count" if count != 1 else "token"].format(count=count),
        prompt,
    ]


def progress(request: Request, context: int, is_warm: bool) -> str:
    """`facts` and how full the context of `context` tokens is."""
    return line(*facts(request, is_warm)) + " " + gauge(request.prompt_tokens + len(request.token_ids), context)


def gauge(used: int, context: int) -> str:
    """A bar with its numbers."""
    percent = min(100, round(100 * used / context))
    words = TEXT["context"].format(used=used, size=context)
    return (
        f'<span class="gauge" role="img" aria-label="{escape(words)}"><i><b style="width:{percent}%"></b></i>'
        f"{escape(words)}</span>"
    )


def reason(finish: str, request: Request, context: int) -> tuple[str, str]:
    """Why a reply ended: as `StoredNode.finish` has it, and in words."""
    limit = request.params.max_new_tokens
    if finish == "length" and len(request.token_ids) < limit:
        finish = "context"
    return finish, TEXT[f"{finish}_reason"].format(limit=limit, context=context)


def count_in_words(number: int) -> str:
    """1234567 as "1.23M": parameter counts as people say them."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def bytes_in_words(number: float) -> str:
    """1234567 as "1.2 MB"."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return TEXT["bytes"].format(count=f"{number:.0f}")
