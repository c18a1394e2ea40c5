"""`Model`: everything that is needed to chat, in one object."""

import dataclasses

from llama_core.model.config import LlamaConfig
from llama_core.model.params import Params, count_params
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import Chat
from llama_core.tokenizer.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded checkpoint.

    - `id` tells models apart: two with the same id give the same replies. It is short and stays the same after a
      restart and on another machine: `guide-1a2b3c4d` for a folder or a GGUF file (a hash of what is in it, see
      `identity.py`), `name/repo@commit` from the Hub (`name/repo@commit:CHOICE` for one of its GGUF files),
      `random:NAME`.
    - `name` is for people; two different folders can have the same.
    - `defaults` are the sampling parameters that the makers of the model recommend.
    - `is_random`: the weights are noise.
    - `notes` are lines for whoever loads it: what in its files was ignored, and why.
    - `stored` says how its weights lie on disk ("Q4_1 and Q8_0, 5.8 bits a weight"); empty for noise.
    """

    id: str
    name: str
    config: LlamaConfig
    params: Params
    tokenizer: Tokenizer
    chat: Chat
    defaults: SamplingParams = SamplingParams()
    is_random: bool = False
    notes: tuple[str, ...] = ()
    stored: str = ""

    @property
    def dtype(self) -> str:
        """The number format of the weights in memory."""
        return str(self.params.dtype)

    @property
    def parameter_count(self) -> int:
        """How many numbers the model has."""
        return count_params(self.config)
