"""The command: `python -m llama_core.training --data FILE --config FOLDER --out FOLDER`."""

import functools
import sys

from llama_core.errors import UserError
from llama_core.training.options import read_options
from llama_core.training.run import train

if __name__ == "__main__":
    try:
        train(read_options(sys.argv[1:]), functools.partial(print, flush=True))
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
