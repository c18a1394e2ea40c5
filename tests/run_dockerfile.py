"""The steps of the Dockerfile one by one in a fresh folder, for machines without containers.

    python tests/run_dockerfile.py [--build-arg REQUIREMENTS=requirements.txt]

Python is a fresh virtual environment instead of the image, and steps that change the system (packages, users) are
named and left out. Ends with the container's command, and its health check until that passes.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
SYSTEM = ("apt-get", "useradd")
START_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    given = dict(text.split("=", 1) for text in parser.parse_args().build_arg)
    with tempfile.TemporaryDirectory() as folder:
        return Build(Path(folder), given).run(instructions((ROOT / "Dockerfile").read_text()))


def instructions(text: str) -> list[tuple[str, str]]:
    """The Dockerfile as pairs of an instruction and its arguments."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(name.upper(), rest) for name, rest in pairs]


class Build:
    """The image's files lie in `folder`/app; `home` is the home of its user."""

    def __init__(self, folder: Path, given: dict[str, str]):
        self.app, self.home, self.given = folder / "app", folder / "home", given
        for path in (self.app, self.home):
            path.mkdir()
        venv.create(folder / "python", with_pip=True)
        self.environment = {"PATH": f"{folder / 'python' / 'bin'}:{os.environ['PATH']}", "HOME": str(self.home)}
        self.command: list[str] = []
        self.check: list[str] = []

    def run(self, steps: list[tuple[str, str]]) -> int:
        for name, rest in steps:
            print(f"{name} {rest}", flush=True)
            getattr(self, f"do_{name.lower()}", lambda rest: None)(rest)
        return self.start()

    def do_arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.environment[name] = self.given.get(name, value)

    def do_env(self, rest: str) -> None:
        self.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))

    def do_copy(self, rest: str) -> None:
        *sources, target = rest.split()
        for source in sources:
            path = self.app / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, path, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, path)

    def do_run(self, rest: str) -> None:
        if any(word in rest for word in SYSTEM):
            print("  left out: it changes the system")
            return
        subprocess.run(rest, shell=True, cwd=self.app, env=self.environment, check=True)

    def do_healthcheck(self, rest: str) -> None:
        self.check = json.loads(rest.partition("CMD ")[2])

    def do_cmd(self, rest: str) -> None:
        self.command = json.loads(rest)

    def start(self) -> int:
        """Run the container's command until its health check passes. The exit code."""
        with subprocess.Popen(self.command, cwd=self.app, env=self.environment) as app:
            try:
                for _ in range(START_SECONDS):
                    if app.poll() is not None:
                        return 1
                    asked = subprocess.run(self.check, env=self.environment, capture_output=True, check=False)
                    if asked.returncode == 0:
                        print("healthy")
                        return 0
                    time.sleep(1)
                return 1
            finally:
                app.terminate()


if __name__ == "__main__":
    sys.exit(main())
