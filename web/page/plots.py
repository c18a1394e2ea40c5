"""The next-token distribution as a list with bars: safe HTML made from numbers. Each bar has its number beside it, for
who cannot see it."""

from collections.abc import Callable
from html import escape

import numpy as np

from web.chat.actions import ALTERNATIVES
from web.strings import TEXT


def softmax(logits: np.ndarray) -> np.ndarray:
    """The model's own probabilities."""
    weights = np.exp(logits - logits.max(), dtype=np.float64)
    return weights / weights.sum()


def real_choices(probabilities: np.ndarray) -> float:
    """The perplexity of a distribution, e to its entropy: among so many equally likely ones one would be as unsure."""
    some = probabilities[probabilities > 0].astype(np.float64)
    return float(np.exp(-np.sum(some * np.log(some))))


def distribution_list(own: np.ndarray, after: np.ndarray, label: Callable[[int], str], chosen: int, index: int) -> str:
    """The likeliest tokens with their share before and after sampling, and a line where they are cut off. The `chosen`
    one is in it, however unlikely. Each is a button by which the reply goes on from there (panels/word.js).

    `label` names a token; `index` is the place of the chosen one in the reply.
    """
    order = [int(token_id) for token_id in np.argsort(-own, kind="stable")[:ALTERNATIVES]]
    if chosen not in order:
        order.append(chosen)
    kept = after > 0
    cut_line = _cut_line(int(kept.sum()), own.size, float(own[kept].sum()))
    longest = float(max(own[order].max(), after[order].max()))  # as wide as there is room for
    rows = [
        _row(token_id, label(token_id), own[token_id], after[token_id], longest, token_id == chosen)
        for token_id in order
    ]
    first_cut = next((at for at, token_id in enumerate(order) if not kept[token_id]), len(rows))
    rows.insert(first_cut, cut_line)
    return (
        f"<h2>{escape(TEXT['plot_title'].format(token=shown(label(chosen))))}</h2>"
        f'<p class="choices">{escape(_choices(real_choices(own), real_choices(after)))}</p>'
        f'<p class="keys" aria-hidden="true"><i class="own"></i>{escape(TEXT["plot_own"])}'
        f'<i class="after"></i>{escape(TEXT["plot_after"])}</p>'
        f'<ol class="odds" data-index="{index}">{"".join(rows)}</ol>'
        f'<p class="hint">{escape(TEXT["plot_branch"])}</p>'
    )


def _choices(own: float, after: float) -> str:
    sure = TEXT["plot_sure"] if own < 1.5 else TEXT["plot_choices"].format(count=f"{own:,.0f}")
    return f"{sure} {TEXT['plot_choices_after'].format(count=f'{after:,.0f}')}" if round(own) != round(after) else sure


def _cut_line(kept: int, all_tokens: int, share: float) -> str:
    if kept == all_tokens:
        return f'<li class="whole">{escape(TEXT["plot_whole"].format(all=f"{all_tokens:,}"))}</li>'
    words = TEXT["plot_cut"].format(kept=f"{kept:,}", all=f"{all_tokens:,}", share=percent(share))
    return f'<li class="cut-line">{escape(words)}</li>'


def _row(token_id: int, label: str, own: float, after: float, longest: float, chosen: bool) -> str:
    mark = ' class="gone"' if after <= 0 else ""
    current = ' aria-current="true"' if chosen else ""
    shares = {"after": after, "own": own}
    told = percent(after) if after > 0 else TEXT["plot_gone"]
    name = TEXT["plot_row"].format(token=shown(label), own=percent(own), after=told)
    bars = "".join(
        f'<i class="{kind}" style="width:{100 * share / longest:.1f}%"></i>' for kind, share in shares.items()
    )
    return (
        f'<li{mark}><button type="button" data-id="{token_id}"{current} aria-label="{escape(name)}">'
        f'<bdi>{escape(shown(label))}</bdi><span class="bars">{bars}</span>'
        f'<span class="shares">{percent(own)} → {escape(told)}</span></button></li>'
    )


def shown(label: str) -> str:
    """A token's text with its white space made visible."""
    return label.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "▫"


def percent(share: float) -> str:
    """0.831 as "83 %"."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
