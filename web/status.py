"""The line under the conversation: how fast the words come, and in words why they ended. Small pieces of safe HTML."""

from html import escape
from typing import Any

from web.strings import TEXT


def line(*parts: str) -> str:
    """Plain texts side by side, as HTML."""
    return " ".join(f"<span>{escape(part)}</span>" for part in parts if part)


def problem(text: str) -> str:
    """Something the person has to know before asking again."""
    return f'<span class="problem">{escape(text)}</span>'


def waiting(stats: Any) -> str:
    """Before the first word: reading the prompt, or in line for one of the engine's slots (`EngineStats`)."""
    if stats.busy >= stats.slots and stats.queued:
        return line(TEXT["in_line"].format(place=stats.queued))
    return line(TEXT["waiting"])


def progress(generation: Any) -> str:
    """Speed, time to first token and length of a `Generation`, as far as they are known."""
    speed, first = generation.tokens_per_second, generation.time_to_first_token
    count = len(generation.tokens)
    return line(
        TEXT["speed"].format(speed=speed) if speed else "",
        TEXT["first"].format(seconds=first) if first is not None else "",
        TEXT["tokens" if count != 1 else "token"].format(count=count),
    )


def finished(reply: Any, max_new_tokens: int, context: int) -> str:
    """`progress` and the reason in words. `context` is the engine's max_seq_len."""
    reason = reply.finish_reason or "error"
    if reason == "length" and len(reply.generation.tokens) < max_new_tokens:
        reason = "context"
    why = TEXT[f"{reason}_reason"].format(limit=max_new_tokens, context=context)
    return progress(reply.generation) + " " + line(why)


def count_in_words(number: int) -> str:
    """1234567 as "1.2M": parameter counts as people say them."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)
