"""The package as somebody meets it who has nothing else: built by `python -m build`, installed into fresh virtual
environments, and asked a question without a network.

    python tests/run_wheel.py [PYTHON …]

Each PYTHON (without any, this one) gets an environment, in which `pip check` has to be content and `glass-llama` has to
answer with the guide. Then `pipx run` and `uvx` start the command from the wheel.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
# A process whose only network is its own loopback. The question is asked in there too.
CUT_OFF = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
COMMANDS = {"train": "--data", "space": "deploy", "bench": "serving"}  # and a word of what each says of itself


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        return ask(given.ask)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        for number, python in enumerate(given.pythons):
            try_out(wheel, python, folder / f"python{number}")
        run_by_others(wheel, folder)


def copy_sources(target: Path) -> None:
    """What git knows of the repository, and what it would take: without an old `build`, of which setuptools would take
    what lies in it. Raises `CalledProcessError` where there is no git."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def build(folder: Path) -> Path:
    """The wheel, made of the source package."""
    copy_sources(folder / "sources")
    bin = new_environment(folder / "build", sys.executable, "build")
    subprocess.run([bin / "python", "-m", "build", "-o", folder / "dist", folder / "sources"], check=True)
    [wheel] = (folder / "dist").glob("*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
    return wheel


def new_environment(folder: Path, python: str, *packages: str) -> Path:
    """The folder of commands of a fresh virtual environment with these packages."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
    return folder / "bin"


def try_out(wheel: Path, python: str, folder: Path) -> None:
    bin = new_environment(folder, python, str(wheel))
    print(subprocess.check_output([bin / "python", "--version"], text=True), end="", flush=True)
    subprocess.run([bin / "pip", "check"], check=True)
    for command, word in COMMANDS.items():
        said = subprocess.run([bin / "glass-llama", command, "--help"], cwd=folder, capture_output=True, text=True)
        assert word in said.stdout, said.stderr
    asking = [sys.executable, __file__, "--ask", bin]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    if subprocess.run([*CUT_OFF, "true"], capture_output=True).returncode == 0:
        asking = [*CUT_OFF, *asking]
    else:
        print("the network cannot be cut here: only the Hub is out of reach")
        environment["HF_HUB_OFFLINE"] = "1"
    subprocess.run(asking, cwd=folder, env=environment, check=True)


def ask(bin: Path) -> None:
    """Start the app, ask it over its API, print its answer."""
    began = time.monotonic()
    with subprocess.Popen([bin / "glass-llama", "--port", "0"], stdout=subprocess.PIPE, text=True) as app:
        try:
            lines = iter(app.stdout.readline, "")
            address = next(filter(None, (re.search(r"open (http://\S+)", line) for line in lines)))[1]
            asked = {"temperature": 0, "messages": [{"role": "user", "content": "What is temperature?"}]}
            asked["model"] = json.load(urllib.request.urlopen(f"{address}/v1/models"))["data"][0]["id"]
            request = urllib.request.Request(
                f"{address}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
            )
            answer = json.load(urllib.request.urlopen(request, timeout=300))["choices"][0]["message"]["content"]
            assert "temperature" in answer.lower(), answer
            print(f"answered after {time.monotonic() - began:.0f} s: {answer!r}", flush=True)
        finally:
            app.terminate()
            app.communicate()  # to its last word


def run_by_others(wheel: Path, folder: Path) -> None:
    bin = new_environment(folder / "others", sys.executable, "pipx", "uv")
    kept = {"PIPX_HOME": str(folder / "pipx"), "UV_CACHE_DIR": str(folder / "uv")}
    environment = {**os.environ, **kept, "PATH": f"{bin}:{os.environ['PATH']}"}
    for command in (["pipx", "run", "--spec"], ["uvx", "--from"]):
        whole = [*command, str(wheel), "glass-llama", "--help"]
        said = subprocess.run(whole, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        assert "--max-seq-len" in said.stdout
        print(f"{' '.join(command)} starts it", flush=True)


if __name__ == "__main__":
    main()
