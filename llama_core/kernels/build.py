"""The library of native kernels: from the wheel where that is installed, else compiled once with the system's compiler
and kept."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from llama_core.errors import UserError

SOURCES = Path(__file__).parent
MAIN = SOURCES / "kernels.cc"
# For all processors of a kind: the sources choose the instruction set when they run.
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread")
COMPILERS = ("c++", "g++", "clang++")
CACHE = Path("~/.cache/glass-llama/kernels")
WHEEL = "glass_llama_kernels"  # the package of the wheel, see kernels_wheel
LONGEST_COMPILATION = 600  # seconds


class KernelError(UserError):
    """Why there are no native kernels; one line that says what was found and what to do."""


def find_library(cache: Path | None = None, progress: Callable[[int, int], None] | None = None) -> Path:
    """The library, compiled now if it is neither installed nor in the `cache` folder; `progress(done, total)` is told
    before and after. Raises `KernelError`."""
    path = _made(cache)
    return path if path.is_file() else _compile(path, progress or (lambda done, total: None))


def can_have_library() -> bool:
    """Whether there is a library, or a compiler to make it."""
    return _made().is_file() or _compiler() is not None


def _made(cache: Path | None = None) -> Path:
    """Where the library is, or is to be once it is compiled."""
    folder = (CACHE if cache is None else cache).expanduser()
    return _installed() or folder / f"{_key()}.so"


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def compile_command(compiler: str, output: Path) -> list[str]:
    """The command that makes the library."""
    return [compiler, *FLAGS, "-isystem", jax.ffi.include_dir(), str(MAIN), "-o", str(output)]


def _installed() -> Path | None:
    """The library of the wheel, if it is installed and of these sources."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent
    made_of = folder / "sources"
    is_this = made_of.is_file() and made_of.read_text(encoding="utf-8").strip() == sources_hash()
    return next(folder.glob("*.so"), None) if is_this else None


def sources_hash() -> str:
    """A hash of the sources and flags: a library that was made of others is not used."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted([*SOURCES.glob("*.cc"), *SOURCES.glob("*.h")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _key() -> str:
    return f"{sources_hash()}-{platform.machine()}-jaxlib-{importlib.metadata.version('jaxlib')}"


def _compile(path: Path, progress: Callable[[int, int], None]) -> Path:
    """Compile to a temporary name, then rename: whoever finds `path` finds it whole. Of several processes that want it
    at once the first compiles, the others wait."""
    compiler = _compiler()
    if compiler is None:
        raise KernelError(
            "there are no native kernels, so weights are read as float32, slower: no C++ compiler is installed; "
            "install g++ (apt-get install g++), or the wheel of the kernels"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=path.parent) as unfinished:
            if path.is_file():
                return path
            print("Compiling native kernels, once (about 10 seconds)", file=sys.stderr, flush=True)
            progress(0, 1)
            output = Path(unfinished) / path.name
            _run(compile_command(compiler, output))
            output.replace(path)
            progress(1, 1)
    except OSError as problem:
        raise KernelError(
            f"native kernels cannot be kept in {path.parent} ({problem.strerror}); make it writable"
        ) from None
    return path


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=LONGEST_COMPILATION)
    except subprocess.CalledProcessError as problem:
        lines = [line for line in problem.stderr.splitlines() if "error" in line] or problem.stderr.splitlines()
        words = lines[0][:200] if lines else f"exit code {problem.returncode}"
        raise KernelError(
            f"native kernels cannot be compiled with {command[0]} ({words}); install g++ 9 or newer"
        ) from None
    except subprocess.TimeoutExpired:
        raise KernelError(
            f"native kernels cannot be compiled: {command[0]} took over {LONGEST_COMPILATION} s; start again when the "
            "machine is less busy"
        ) from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among all processes that lock this file; the system unlocks it for a process that dies."""
    if os.name != "posix":
        raise KernelError("native kernels are for Linux and macOS; choose --kernels off")
    import fcntl  # not there on other systems

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
