"""What the device knows of each slot: its cache, where it stands, when it ends, how it is sampled."""

import dataclasses
from collections.abc import Sequence
from typing import no_type_check

import jax
import numpy as np
from jaxtyping import Array, Bool, Int

from llama_core.model.llama import KVCache
from llama_core.sampling.params import MAX_STOP_TOKENS, SamplingParams
from llama_core.sampling.sampler import DeviceSamplingParams, PenaltyState, make_penalty_state, stack_sampling_params


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SlotTable:
    """What the device knows of each slot: its newest token and that token's place, whether more are to come, when it
    ends (`limits`: that many tokens in all; `stops`: token ids, filled up with -1) and how it is sampled."""

    tokens: Int[Array, "S"]
    positions: Int[Array, "S"]
    running: Bool[Array, "S"]
    limits: Int[Array, "S"]
    stops: Int[Array, "S M"]
    knobs: DeviceSamplingParams
    context: PenaltyState


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What stays on the device between programs. Every program takes the only one there is and gives back the next."""

    cache: KVCache
    slots: SlotTable


def slot_row(
    prompt_ids: Sequence[int], start: int, limit: int, stops: Sequence[int], params: SamplingParams, vocab_size: int
) -> SlotTable:
    """One slot's row of the table for a new request, S = 1, as host arrays; `start` tokens are in the cache already."""
    padded = np.full((1, MAX_STOP_TOKENS), -1, np.int32)
    padded[0, : len(stops)] = stops
    return SlotTable(
        tokens=np.zeros(1, np.int32),
        positions=np.array([start], np.int32),
        running=np.zeros(1, bool),
        limits=np.array([limit], np.int32),
        stops=padded,
        knobs=stack_sampling_params([params]),
        context=make_penalty_state(params, vocab_size, prompt_ids),
    )
