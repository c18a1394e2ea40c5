"""What one step of one reply leaves behind, packed in a row of integers: written on the device by `pack`, copied to the
host once a block, read there by `Records`. Floats ride along as their bits."""

from dataclasses import dataclass
from enum import IntEnum

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32

from llama_core.sampling.params import MAX_ALTERNATIVES
from llama_core.sampling.sampler import SampledToken


class Status(IntEnum):
    """What a step did for a reply: nothing, one token, one token that is the last, or none because the logits were not
    finite."""

    IDLE = 0
    GOING = 1
    STOP = 2
    LENGTH = 3
    NOT_FINITE = 4


WIDTH = 4 + 3 * MAX_ALTERNATIVES  # P: status, token, two log-probabilities, and the same of the alternatives


def pack(status: Int[Array, "B"], choice: SampledToken) -> Int32[Array, "B P"]:
    """One step's records of B replies."""

    def bits(values: Array) -> Array:
        return jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)

    single = jnp.stack([status, choice.token, bits(choice.logprob), bits(choice.final_logprob)], axis=-1)
    many = [choice.top, bits(choice.top_logprob), bits(choice.top_final_logprob)]
    return jnp.concatenate([single.astype(jnp.int32), *many], axis=-1)


@dataclass(frozen=True)
class Records:
    """The records of one reply in one block, on the host: only the steps that made a token. `is_broken` says that the
    next step had logits that were NaN or infinite."""

    rows: Int32[np.ndarray, "T P"]
    is_broken: bool = False

    @classmethod
    def of(cls, rows: Int32[np.ndarray, "T P"]) -> "Records":
        """The records up to the first step without a token."""
        made_token = (rows[:, 0] != Status.IDLE) & (rows[:, 0] != Status.NOT_FINITE)
        return cls(rows[: int(np.count_nonzero(made_token))], bool(np.any(rows[:, 0] == Status.NOT_FINITE)))

    @property
    def token_ids(self) -> list[int]:
        """The tokens, in order."""
        return self.rows[:, 1].tolist()

    @property
    def last_status(self) -> Status:
        """What the newest step did; IDLE without one."""
        return Status(int(self.rows[-1, 0])) if len(self.rows) else Status.IDLE

    def logprobs(self, step: int) -> tuple[float, float]:
        """Of the token: as the model gave it, and as it was drawn from."""
        raw, cut = self.rows[step, 2:4].view(np.float32)
        return float(raw), float(cut)

    def alternatives(self, step: int, count: int) -> list[tuple[int, float, float]]:
        """Id and both log-probabilities of the `count` likeliest tokens, the likeliest first; fewer where the model can
        draw fewer."""
        ids, raw, cut = self.rows[step, 4:].reshape(3, MAX_ALTERNATIVES)[:, :count]
        rows = zip(ids.tolist(), raw.view(np.float32).tolist(), cut.view(np.float32).tolist(), strict=True)
        return [row for row in rows if row[1] > -np.inf]
