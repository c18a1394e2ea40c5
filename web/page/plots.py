"""Distributions as bars: safe HTML made from numbers. Each bar has its number beside it, for who cannot see it."""

from collections.abc import Callable
from html import escape

import numpy as np

from web.strings import TEXT

ROWS = 10


def softmax(logits: np.ndarray) -> np.ndarray:
    """The model's own probabilities."""
    weights = np.exp(logits - logits.max(), dtype=np.float64)
    return weights / weights.sum()


def distribution_table(own: np.ndarray, after: np.ndarray, label: Callable[[int], str], chosen: int) -> str:
    """The likeliest tokens with their share before and after the sliders, and a line where they are cut off.

    `label` names a token; `chosen` is the one that came.
    """
    order = np.argsort(-own, kind="stable")[:ROWS]
    kept = after > 0
    cut_line = _cut_line(int(kept.sum()), own.size, float(own[kept].sum()))
    rows, cut = [], False
    for token_id in order:
        if not kept[token_id] and not cut:
            rows.append(cut_line)
            cut = True
        rows.append(_row(label(int(token_id)), own[token_id], after[token_id], token_id == chosen))
    if not cut:
        rows.append(cut_line)
    head = "".join(f'<th scope="col">{escape(TEXT[name])}</th>' for name in ("plot_token", "plot_own", "plot_after"))
    title = escape(TEXT["plot_title"].format(token=shown(label(chosen))))
    return (
        f'<table class="plot"><caption>{title}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cut_line(kept: int, all_tokens: int, share: float) -> str:
    if kept == all_tokens:
        return f'<tr class="whole"><td colspan="3">{escape(TEXT["plot_whole"].format(all=f"{all_tokens:,}"))}</td></tr>'
    words = TEXT["plot_cut"].format(kept=f"{kept:,}", all=f"{all_tokens:,}", share=percent(share))
    return f'<tr class="cut-line"><td colspan="3">{escape(words)}</td></tr>'


def _row(label: str, own: float, after: float, chosen: bool) -> str:
    mark = ' class="chosen"' if chosen else ' class="gone"' if after <= 0 else ""
    cells = "".join(
        f'<td><i class="bar {kind}" style="width:{100 * share:.1f}%"></i><span>{percent(share)}</span></td>'
        for kind, share in (("own", own), ("after", after))
    )
    return f'<tr{mark}><th scope="row"><bdi>{escape(shown(label))}</bdi></th>{cells}</tr>'


def shown(label: str) -> str:
    """A token's text with its white space made visible."""
    return label.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "▫"


def percent(share: float) -> str:
    """0.831 as "83 %"."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
