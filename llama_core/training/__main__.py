"""The command: `python -m llama_core.training --data FILE --config FOLDER --out FOLDER`."""

import functools
import sys

from llama_core.errors import UserError
from llama_core.training.options import read_options

if __name__ == "__main__":
    try:
        options = read_options(sys.argv[1:])
        # Here because optax is not among what the app needs.
        from llama_core.training.run import train

        train(options, functools.partial(print, flush=True))
    except ModuleNotFoundError as missing:
        print(
            f"error: training needs {missing.name}: pip install -r requirements-train.txt (of the package: pip install "
            "'glass-llama[train]')",
            file=sys.stderr,
        )
        sys.exit(2)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
