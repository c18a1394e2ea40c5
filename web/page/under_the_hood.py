"""For learners: the model as a picture of its own configuration, its numbers, and what happened inside for one token.
Safe HTML made from numbers."""

from collections.abc import Callable, Mapping
from html import escape

import numpy as np

from llama_core.checkpoint import Model
from llama_core.checkpoint.memory_plan import Plan
from llama_core.engine.metrics import EngineStats
from llama_core.model.config import LlamaConfig
from llama_core.model.lens import Inside
from llama_core.sampling.params import SamplingParams
from web.chat.status import bytes_in_words, count_in_words
from web.page.knob_code import code_of
from web.page.plots import percent, shown
from web.strings import TEXT

MOST_LAYERS_DRAWN = 40


def picture(config: LlamaConfig) -> str:
    """The architecture as SVG: the stack of blocks, and one of them opened up."""
    say = _picture_words(config)
    return "".join(
        (
            f'<svg class="picture" viewBox="0 0 560 430" role="img" aria-label="{say["picture"]}">',
            '<path class="flow" d="M130 408V22"/>',
            _box(30, 372, 200, say["embedding"], say["embedding_fact"]),
            _stack(config.num_hidden_layers),
            f'<text x="130" y="352" class="small on-line">{say["block"]}</text>',
            _box(30, 62, 200, say["norm"], ""),
            _box(30, 12, 200, say["head_box"], say["head_fact"]),
            '<path class="lens" d="M212 122L300 62M212 336L300 398"/>',
            '<rect class="frame" x="300" y="62" width="254" height="336" rx="12"/>',
            '<path class="flow" d="M420 398V62"/>',
            _residual(393, 250),
            _residual(243, 75),
            _box(320, 350, 200, say["norm"], ""),
            _box(320, 262, 200, say["attention_box"], say["attention_fact"], 78),
            _heads(config),
            _box(320, 198, 200, say["norm"], ""),
            _box(320, 86, 200, say["ffn"], say["ffn_fact"], 78),
            _wide(config),
            "</svg>",
        )
    )


def _residual(leaves: int, joins: int) -> str:
    """What passes by attention or the feed-forward part, and is added to what comes out of it."""
    return (
        f'<path class="flow residual" d="M420 {leaves}H531a7 7 0 0 0 7 -7V{joins + 7}a7 7 0 0 0 -7 -7H427"/>'
        f'<circle class="sum" cx="420" cy="{joins}" r="7"/><path class="flow" d="M416 {joins}H424M420 {joins - 4}v8"/>'
    )


PICTURE_WORDS = [
    "embedding",
    "embedding_fact",
    "block",
    "attention_box",
    "attention_fact",
    "ffn",
    "ffn_fact",
    "norm",
    "head_box",
    "head_fact",
    "head_tied",
    "picture",
]


def _picture_words(config: LlamaConfig) -> dict[str, str]:
    letters = {
        "V": f"{config.vocab_size:,}",
        "D": f"{config.hidden_size:,}",
        "L": config.num_hidden_layers,
        "H": config.num_attention_heads,
        "K": config.num_key_value_heads,
        "E": config.head_dim,
        "F": f"{config.intermediate_size:,}",
    }
    say = {name: escape(TEXT[f"hood_{name}"].format(**letters)) for name in PICTURE_WORDS}
    return say | ({"head_fact": say["head_tied"]} if config.tie_word_embeddings else {})


def _box(x: int, y: int, width: int, title: str, fact: str, height: int = 36) -> str:
    top = y + (15 if fact else 23)
    line = f'<text x="{x + width // 2}" y="{top + 14}" class="small">{fact}</text>' if fact else ""
    return (
        f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
        f'<text x="{x + width // 2}" y="{top}">{title}</text>{line}'
    )


def _stack(layers: int) -> str:
    drawn = min(layers, MOST_LAYERS_DRAWN)
    step = 220 / drawn
    return "".join(
        f'<rect class="layer" x="48" y="{112 + i * step:.1f}" width="164" height="{max(2.0, step - 3):.1f}" rx="3"/>'
        for i in range(drawn)
    )


def _heads(config: LlamaConfig) -> str:
    """A square for each head; those that share a key/value head stand together in one shade."""
    heads, group = config.num_attention_heads, config.queries_per_kv_head
    step = min(22.0, 184 / heads)
    left = 420 - heads * step / 2
    return "".join(
        f'<rect class="head{" other" if (i // group) % 2 else ""}" x="{left + i * step:.1f}" y="304" '
        f'width="{step * 0.8:.1f}" height="16" rx="2"/>'
        for i in range(heads)
    )


def _wide(config: LlamaConfig) -> str:
    """Width and feed-forward width as bars to scale."""
    narrow = 170 * config.hidden_size / max(config.intermediate_size, config.hidden_size)
    wide = 170 * config.intermediate_size / max(config.intermediate_size, config.hidden_size)
    bars = ((narrow, 150), (wide, 139), (narrow, 128))
    return "".join(
        f'<rect class="head" x="{420 - width / 2:.1f}" y="{y}" width="{width:.1f}" height="7" rx="2"/>'
        for width, y in bars
    )


def numbers(model: Model, plan: Plan, stats: EngineStats) -> str:
    """The facts as a table. `plan` is the memory `Plan` of this model, `stats` what the engine is doing."""
    config = model.config
    per_token = plan.cache / max(1, stats.context_size)
    used = TEXT["fact_use_value"].format(
        used=stats.context_used, size=stats.context_size, bytes=bytes_in_words(stats.context_used * per_token)
    )
    rows = {
        "fact_parameters": f"{model.parameter_count:,} ({count_in_words(model.parameter_count)})",
        **({"fact_stored": model.stored} if model.stored else {}),
        "fact_weights": bytes_in_words(plan.params),
        "fact_dtype": model.weights,
        "fact_layers": config.num_hidden_layers,
        "fact_width": config.hidden_size,
        "fact_heads": f"{config.num_attention_heads} ({config.num_key_value_heads})",
        "fact_vocabulary": f"{config.vocab_size:,}",
        "fact_context": f"{config.max_position_embeddings:,}",
        "fact_cache": TEXT["fact_cache_value"].format(
            size=bytes_in_words(plan.cache), slots=stats.slots, context=stats.context_size // stats.slots
        ),
        "fact_cache_use": used,
        "fact_attention": TEXT[f"fact_attention_{stats.attention}"],
    }
    return _table(TEXT["hood_facts"], {TEXT[name]: escape(str(value)) for name, value in rows.items()})


def code_links() -> str:
    """Each sampling parameter with a link to the line of our code that computes it."""
    rows = {}
    for name in SamplingParams.knobs():
        path, line = code_of(name)
        words = escape(TEXT["hood_line"].format(path=path, line=line))
        label = TEXT[f"knob_{name}"]
        rows[label] = f'<a href="./source/{path}#L{line}" target="_blank" rel="noopener">{words}</a>'
    return _table(TEXT["hood_knobs"], rows)


def _table(title: str, rows: Mapping[str, str]) -> str:
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{cell}</td></tr>' for name, cell in rows.items())
    return f'<table class="facts"><caption>{escape(title)}</caption><tbody>{body}</tbody></table>'


def looking(others: int) -> str:
    """Until the lens is there; `others` come first."""
    words = escape(TEXT["hood_waiting"].format(count=others) if others else TEXT["hood_looking"])
    bar = f'<div class="progress endless" role="progressbar" aria-label="{words}"><b></b></div>'
    return f'{bar}<p class="hint">{words}</p>'


def lens(inside: Inside, label: Callable[[int], str]) -> str:
    """What each layer would have said, the last layer on top as in the picture."""
    rows = []
    for layer in reversed(range(len(inside.ids))):
        cells = "".join(
            f'<td style="--share:{share:.3f}"><bdi>{escape(shown(label(int(token))))}</bdi> '
            f"<small>{percent(share)}</small></td>"
            for token, share in zip(inside.ids[layer], inside.shares[layer], strict=True)
        )
        rows.append(f'<tr><th scope="row">{layer + 1}</th>{cells}</tr>')
    head = f'<th scope="col">{escape(TEXT["hood_layer"])}</th>' + "".join(
        f'<th scope="col">{escape(TEXT["hood_rank"].format(rank=rank))}</th>'
        for rank in range(1, inside.ids.shape[1] + 1)
    )
    title = escape(TEXT["hood_lens"])
    return (
        f'<h3>{title}</h3><p class="hint">{escape(TEXT["hood_lens_hint"])}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<table class="lens" aria-label="{title}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def attention(weights: np.ndarray, words: list[str], layer: int, head: int, token: str) -> str:
    """The text with each word tinted by the attention that it got."""
    most = float(weights.max()) or 1.0
    spans = "".join(
        f'<span style="--share:{weight / most:.3f}" title="{percent(float(weight))}">{escape(word)}</span>'
        for word, weight in zip(words, weights, strict=True)
    )
    top = ", ".join(f"{shown(words[i])} {percent(float(weights[i]))}" for i in np.argsort(-weights)[:5])
    title = escape(TEXT["hood_attention"].format(head=head + 1, layer=layer + 1, token=shown(token)))
    return f'<h3>{title}</h3><p class="attention" dir="auto">{spans}</p><p class="top">{escape(top)}</p>'
