"""`python -m benchmarks NAME …`, or `glass-llama bench NAME …` where the package is installed: one of the benchmarks of
this folder. Without a name: which ones there are."""

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main(arguments: list[str]) -> int:
    """Run one. The exit code: 2 for a name that is not there, and for one that needs what is not installed."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if "def main(" in path.read_text()}
    known.pop("__main__")
    if not arguments or arguments[0] not in known:
        for name, path in known.items():
            print(f"{name:>10}  {(ast.get_docstring(ast.parse(path.read_text())) or '').splitlines()[0]}")
        return 2
    try:
        sys.argv.pop(0)
        runpy.run_module(f"benchmarks.{arguments[0]}", run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as missing:
        print(
            f"error: this benchmark needs {missing.name}; see requirements-dev.txt of the repository", file=sys.stderr
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
