"""A model in words: on its chip, as the one that answers, as one of the list, and what it takes."""

from html import escape

from llama_core.checkpoint.estimate import Estimate
from llama_core.sampling.params import SamplingParams
from web.chat import status
from web.chat.status import bytes_in_words, count_in_words
from web.models.manager import Served
from web.models.offers import Offer
from web.strings import TEXT


def chip_label(served: Served) -> str:
    """Name and size of the model that answers."""
    return f"{served.model.name.rpartition('/')[2]} · {count_in_words(served.model.parameter_count)}"


def facts(served: Served) -> str:
    """The model that answers, and the sampling that its makers recommend, as HTML."""
    model = served.model
    known = (
        TEXT["parameters"].format(count=count_in_words(model.parameter_count)),
        model.weights,
        TEXT["model_memory"].format(memory=bytes_in_words(served.plan.total)),
        TEXT["runs_on"].format(device=served.engine.device),
    )
    words = "model_recommends" if served.recommends else "model_recommends_nothing"
    told = TEXT[words].format(values=sampling_in_words(served.sampling))
    return (
        f'<h2>{escape(model.name)}</h2><p class="facts">{escape(" · ".join(known))}</p>'
        f'<p class="hint">{escape(told)}</p>'
    )


def sampling_in_words(params: SamplingParams) -> str:
    """What differs from no sampling at all: "Temperature 0.5, Top-p 0.9"."""
    plain = SamplingParams(temperature=1.0)
    values = [
        f"{TEXT[f'knob_{name}']} {getattr(params, name):g}"
        for name in SamplingParams.knobs()
        if name != "max_new_tokens" and getattr(params, name) != getattr(plain, name)
    ]
    return ", ".join(values) or f"{TEXT['knob_temperature']} 1"


def offer_label(offer: Offer) -> str:
    """Two lines: its name, and what it takes here."""
    found = offer.found
    if found is None:
        return f"{offer.title}\n{TEXT['model_unreadable']}"
    known = [
        count_in_words(found.parameters),
        TEXT["model_file_size"].format(size=bytes_in_words(found.file_bytes)) if found.file_bytes else "",
        TEXT["model_needs"].format(memory=bytes_in_words(found.plan.total)),
        TEXT["model_noise"] if not found.file_bytes else "",
        TEXT["model_licence"].format(licence=offer.licence) if offer.licence else "",
    ]
    sign = "✓" if found.fits else "✕"
    return f"{offer.title}\n{sign} {' · '.join(part for part in known if part)}"


def estimate_in_words(name: str, found: Estimate) -> str:
    """What a model takes, and whether this machine has that, as HTML."""
    plan = found.plan
    words = TEXT["model_estimate"].format(
        name=name,
        count=count_in_words(found.parameters),
        files=bytes_in_words(found.file_bytes),
        memory=bytes_in_words(plan.total),
        weights=bytes_in_words(plan.params),
        dtype=plan.weights,
        cache=bytes_in_words(plan.cache),
        slots=plan.slots,
        context=min(plan.max_seq_len, plan.config.longest_context),
    )
    if found.free is None:
        return status.line(words)
    room = TEXT["model_fits_here" if found.fits else "model_tight"].format(free=bytes_in_words(found.free))
    return status.line(words) + (status.line(room) if found.fits else status.problem(room))
