"""The command: `python -m llama_core.training --data FILE --config FOLDER --out FOLDER`."""

import functools
import sys

from llama_core.checkpoint.hub import HubError
from llama_core.model.config import ConfigError
from llama_core.runtime.files import ModelFileError
from llama_core.tokenizer.chat_template import ChatError
from llama_core.training.options import TrainingError, read_options
from llama_core.training.run import train

if __name__ == "__main__":
    try:
        train(read_options(sys.argv[1:]), functools.partial(print, flush=True))
    except (TrainingError, ConfigError, ModelFileError, ChatError, HubError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
