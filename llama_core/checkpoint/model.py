"""`Model`: all that is needed to chat, in one object."""

import dataclasses

from llama_core.model.config import LlamaConfig
from llama_core.model.params import Params, count_params
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import Chat
from llama_core.tokenizer.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Model:
    """All that is needed to chat. `defaults` are the sampling parameters its makers recommend; `is_random` says that
    the weights are noise."""

    name: str
    config: LlamaConfig
    params: Params
    tokenizer: Tokenizer
    chat: Chat
    defaults: SamplingParams = SamplingParams()
    is_random: bool = False

    @property
    def dtype(self) -> str:
        """The number format of the weights in memory."""
        return str(self.params.dtype)

    @property
    def parameter_count(self) -> int:
        """How many numbers the model has."""
        return count_params(self.config)
