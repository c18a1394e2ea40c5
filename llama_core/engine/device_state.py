"""What stays on the device: the key/value cache, and for each slot its position, its end and how it is sampled."""

import dataclasses
from collections.abc import Sequence
from typing import no_type_check

import jax
import numpy as np
from jaxtyping import Bool, Int

from llama_core.model.kv_cache import KVCache
from llama_core.runtime.arrays import AnyArray
from llama_core.sampling.params import MAX_STOP_TOKENS, SamplingParams
from llama_core.sampling.sampler import DeviceSamplingParams, PenaltyState, make_penalty_state, stack_sampling_params

# Which ids of a vocabulary may be drawn.
Drawable = Bool[np.ndarray, "V"]


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SlotState:
    """What the device knows of each slot beside its cache: the newest token and its position, whether the reply goes
    on, when it ends (`limits`: at so many tokens, the prompt's included; `stops`: at these token ids, padded with -1),
    which ids may be drawn at all, whether it pauses after each token until it is told what its grammar allows next, and
    how it is sampled."""

    tokens: Int[AnyArray, "S"]
    positions: Int[AnyArray, "S"]
    running: Bool[AnyArray, "S"]
    limits: Int[AnyArray, "S"]
    stops: Int[AnyArray, "S M"]
    drawable: Bool[AnyArray, "S V"]
    is_constrained: Bool[AnyArray, "S"]
    sampling: DeviceSamplingParams
    penalties: PenaltyState


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DeviceState:
    """What stays on the device between programs. Each program is given the only one there is and returns the next."""

    cache: KVCache
    slots: SlotState


def new_slot_state(
    prompt_ids: Sequence[int],
    reply_ids: Sequence[int],
    start: int,
    limit: int,
    stops: Sequence[int],
    params: SamplingParams,
    vocab_size: int,
    drawable: Drawable | None = None,
    allowed: Drawable | None = None,
) -> SlotState:
    """The state of one slot (S = 1) for a new request, as host arrays. `reply_ids` are the beginning of the reply, if
    there is one; `start` tokens are in the cache already. `drawable` None: every id may be drawn.
    `allowed` are the ids that its grammar begins with, if there is one."""
    padded = np.full((1, MAX_STOP_TOKENS), -1, np.int32)
    padded[0, : len(stops)] = stops
    return SlotState(
        tokens=np.zeros(1, np.int32),
        positions=np.array([start], np.int32),
        running=np.zeros(1, bool),
        limits=np.array([limit], np.int32),
        stops=padded,
        drawable=np.ones((1, vocab_size), bool) if drawable is None else drawable[None],
        is_constrained=np.array([allowed is not None]),
        sampling=stack_sampling_params([params], allowed is not None),
        penalties=make_penalty_state(params, vocab_size, prompt_ids, reply_ids, allowed),
    )
