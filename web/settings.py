"""Every setting of the app, declared once: the command line, the environment and `--help` are made from its fields."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

# The model that comes with the app, whatever folder it is started from.
GUIDE = str(Path(__file__).parents[1] / "weights" / "guide")


class SettingsError(ValueError):
    """A setting that cannot be used; one line that names it, what was found and what is expected."""


def setting(
    default: Any,
    env: str,
    help: str,
    minimum: int | None = None,
    maximum: int | None = None,
    choices: tuple[str, ...] = (),
    on_space: Any = None,
) -> Any:
    """A field of `Settings`. `on_space` replaces the default on a Hugging Face Space (where SPACE_ID is set)."""
    return field(
        default=default,
        metadata={
            "env": env,
            "help": help,
            "minimum": minimum,
            "maximum": maximum,
            "choices": choices,
            "on_space": on_space,
        },
    )


@dataclass(frozen=True)
class Settings:
    """How one run of the app is set up. Made once at the door and passed down. Raises `SettingsError`."""

    model: str = setting(
        GUIDE, "GLASS_LLAMA_MODEL", "a Hub id (name/repo or name/repo@revision), a folder, or random:NAME"
    )
    dtype: str = setting(
        "auto",
        "GLASS_LLAMA_DTYPE",
        "number format of the weights; auto: what suits the machine",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    slots: int = setting(
        4, "GLASS_LLAMA_SLOTS", "how many replies are written at the same time", minimum=1, maximum=256
    )
    max_seq_len: int = setting(
        0,
        "GLASS_LLAMA_MAX_SEQ_LEN",
        "context length: prompt and reply together, in tokens; 0: what the model was made for, "
        "as far as memory holds it, up to 4096",
        minimum=0,
        maximum=1 << 20,
    )
    host: str = setting(
        "127.0.0.1", "GLASS_LLAMA_HOST", "address to listen on; 0.0.0.0 lets other machines in", on_space="0.0.0.0"
    )
    port: int = setting(7860, "GLASS_LLAMA_PORT", "port to listen on; 0 takes any free one", minimum=0, maximum=65535)
    title: str = setting("Glass Llama", "GLASS_LLAMA_TITLE", "name shown on the page")
    switching: str = setting(
        "on", "GLASS_LLAMA_SWITCHING", "whether visitors may load another model", choices=("on", "off"), on_space="off"
    )
    system_prompt: str = setting("", "GLASS_LLAMA_SYSTEM_PROMPT", "system prompt that the page starts with")

    def __post_init__(self):
        for row in fields(self):
            _check(row, getattr(self, row.name), row.name)


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the command line, else from the environment, else the defaults.

    An empty environment variable counts as absent. `--help` prints and exits. Raises `SettingsError`.
    """
    given = vars(_parser().parse_args(arguments))
    values = {}
    for row in fields(Settings):
        env = row.metadata["env"]
        if given[row.name] is not None:
            values[row.name] = _convert(row, given[row.name], _flag(row))
        elif environment.get(env):
            values[row.name] = _convert(row, environment[env], env)
        elif environment.get("SPACE_ID") and row.metadata["on_space"] is not None:
            values[row.name] = row.metadata["on_space"]
    return Settings(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see python app.py --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python app.py",
        allow_abbrev=False,
        description="Chat with a Llama that runs in JAX, in your browser.",
        epilog="Every setting can also be given by the environment variable named beside it.",
    )
    for row in fields(Settings):
        notes = [f"default: {row.default}" if row.default != "" else "default: none"]
        if row.metadata["on_space"] is not None:
            notes.append(f"on a Space: {row.metadata['on_space']}")
        notes.append(row.metadata["env"])
        names = f" ({', '.join(row.metadata['choices'])})" if row.metadata["choices"] else ""
        parser.add_argument(
            _flag(row),
            dest=row.name,
            metavar=row.type.__name__.upper(),
            help=f"{row.metadata['help']}{names} [{'; '.join(notes)}]",
        )
    return parser


def _flag(row: Field) -> str:
    return "--" + row.name.replace("_", "-")


def _convert(row: Field, text: str, source: str) -> Any:
    try:
        value = row.type(text)
    except ValueError:
        raise SettingsError(f"{source} is {text!r}; expected {_expected(row)}") from None
    _check(row, value, source)
    return value


def _check(row: Field, value: Any, source: str) -> None:
    low, high, choices = (row.metadata[key] for key in ("minimum", "maximum", "choices"))
    in_range = low is None or low <= value <= high
    if not isinstance(value, row.type) or not in_range or (choices and value not in choices):
        raise SettingsError(f"{source} is {value!r}; expected {_expected(row)}")
    # An empty name would reach the Hub or the socket and fail there in words about something else.
    if row.default and value == "":
        raise SettingsError(f"{source} is empty; expected {row.metadata['help']}")


def _expected(row: Field) -> str:
    if row.metadata["choices"]:
        return " or ".join(row.metadata["choices"])
    if row.type is int:
        return f"a whole number from {row.metadata['minimum']} to {row.metadata['maximum']}"
    return f"text ({row.metadata['help']})"
