"""What a Space is made of: the app's own files, and three that are written for it."""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import SpaceCardData

from web.space.hardware import Hardware, SpaceError

# The folder that has `web`, `llama_core` and the rest: the repository, or where the wheel is installed.
ROOT = Path(__file__).parents[2]
FOLDERS = ("llama_core", "web", "weights/guide")
LEFT_OUT = ("__pycache__", ".DS_Store")
# A Space installs Gradio in the version of `sdk_version`, and with it a pydantic that must not be fixed.
INSTALLED_BY_SPACE = ("gradio", "pydantic")
PACKAGE = "glass-llama"
MODEL = "GLASS_LLAMA_MODEL"  # the variable of a Space that names its model; none: the guide


def app_files(root: Path = ROOT) -> Iterator[Path]:
    """The files of the app that a Space needs, relative to `root`. Raises `SpaceError` where some are missing."""
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            raise SpaceError(f"{root / folder} is missing; run this from the repository or from an installed wheel")
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not any(part in LEFT_OUT for part in path.parts):
                yield path.relative_to(root)
    yield Path("app.py")


def written_files(title: str, hardware: Hardware, model: str) -> dict[str, str]:
    """The files that are made for one Space: name → content."""
    return {
        "README.md": readme(title, hardware, model),
        "requirements.txt": "".join(f"{line}\n" for line in requirements(hardware.has_gpu)),
        "packages.txt": "g++\n",  # compiles the native kernels for CPUs on first use
    }


def readme(title: str, hardware: Hardware, model: str) -> str:
    """README.md with the head from which a Space is configured (huggingface.co/docs/hub/spaces-config-reference)."""
    card = SpaceCardData(
        title=title,
        emoji="🦙",
        sdk="gradio",
        sdk_version=importlib.metadata.version("gradio"),
        python_version="3.12",  # the default, 3.10, is older than JAX takes
        app_file="app.py",
        suggested_hardware=hardware.name,
        startup_duration_timeout="1h",  # a large model takes longer than the default of 30 minutes
        license="mit",
        models=[re.split("[@:]", model)[0]] if is_hub_id(model) else None,
        short_description="Chat with a Llama that runs in JAX",
    )
    return f"---\n{card.to_yaml()}\n---\n\nA Glass Llama: a chat that shows how sure the model was of every word.\n"


def is_hub_id(model: str) -> bool:
    """Whether a model's name is one of the Hub, and neither empty (the guide) nor `random:NAME`."""
    return "/" in model and not model.startswith(("random:", "/", "."))


def requirements(has_gpu: bool, root: Path = ROOT) -> list[str]:
    """The lines of requirements.txt for this kind of hardware."""
    file = root / "requirements.txt"
    if file.is_file():
        lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
    else:  # an installed wheel
        lines = [line for line in importlib.metadata.requires(PACKAGE) or [] if "extra ==" not in line]
    kept = [line for line in lines if line and _name(line) not in INSTALLED_BY_SPACE]
    return [re.sub(r"^jax\b", "jax[cuda12]", line) if has_gpu and _name(line) == "jax" else line for line in kept]


def _name(line: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", line)[0].lower()
