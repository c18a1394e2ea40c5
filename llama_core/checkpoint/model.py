"""`Model`: everything that is needed to chat, in one object."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool

from llama_core.checkpoint.memory_plan import NONE
from llama_core.model.config import LlamaConfig
from llama_core.model.mesh.sharding import devices_of
from llama_core.model.params import Params, count_params
from llama_core.model.quantization import format_name, quantized_matrices
from llama_core.sampling.grammar import GrammarCompiler
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
    - `quantize`: to what the weights were rounded while loading ("none": to nothing).
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
    quantize: str = NONE
    stored: str = ""

    @property
    def dtype(self) -> str:
        """The number format in which the model computes; that of its weights unless they are rounded."""
        return str(self.params.dtype)

    @functools.cached_property
    def drawable(self) -> Bool[np.ndarray, "V"]:
        """Which ids a reply may hold: those that the tokenizer can write, and the ends. The rows of many embeddings are
        padded to a round number, and the scores of the padding are noise."""
        found = np.zeros(self.config.vocab_size, bool)
        writable = self.tokenizer.writable[: len(found)]
        found[: len(writable)] = writable
        found[list(self.config.eos_token_id)] = True
        return found

    @functools.cached_property
    def grammars(self) -> GrammarCompiler:
        """Compiles what a reply must be, for `Engine.submit`."""
        return GrammarCompiler(self.tokenizer, self.config.vocab_size)

    @property
    def weight_bytes(self) -> int:
        """How many bytes the weights take in memory."""
        return self.params.nbytes

    @property
    def devices(self) -> int:
        """How many devices share the weights."""
        return devices_of(self.params)

    @property
    def weights(self) -> str:
        """The format of the weights for people: "float32", or "q8, 8.5 bits a weight"."""
        small = quantized_matrices(self.params)
        if not small:
            return self.dtype
        bits = 8 * sum(matrix.nbytes for matrix in small) / sum(matrix.size for matrix in small)
        names = sorted({format_name(matrix) for matrix in small})
        return f"{' and '.join(names)}, {bits:.1f} bits a weight"

    @property
    def parameter_count(self) -> int:
        """How many numbers the model has."""
        return count_params(self.config)
