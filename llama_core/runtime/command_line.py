"""A command line made from the fields of a dataclass: flags, `--help`, conversion and checks. The app's settings and
the options of a training run are both declared with it. Imports nothing slow: bad settings are refused at once."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, NoReturn

from llama_core.errors import UserError


def option(
    help: str,
    default: Any = MISSING,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    choices: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    **metadata: Any,
) -> Any:
    """A field of type str, int or float; without a default it must be given. `notes` stand behind the default in
    `--help`; `metadata` is kept in the field for its owner."""
    known = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices, "notes": notes}
    return field(default=default, metadata=known | metadata)


def read_arguments(
    owner: type, arguments: Sequence[str], error: type[UserError], prog: str, description: str, epilog: str = ""
) -> dict[str, Any]:
    """The fields of the dataclass `owner` that are given on the command line, converted and checked; those marked
    `is_secret` have no flag, because everybody on a machine can read the command lines of its programs. `--help` prints
    and exits. Raises `error`."""
    parser = _Parser(prog=prog, allow_abbrev=False, description=description, epilog=epilog)
    parser.refusal = error
    rows = [row for row in fields(owner) if not row.metadata.get("is_secret")]
    for row in rows:
        parser.add_argument(
            flag(row),
            dest=row.name,
            required=row.default is MISSING,
            default=argparse.SUPPRESS,
            metavar=_kind(row).__name__.upper(),
            help=_help(row),
        )
    given = vars(parser.parse_args(arguments))
    return {row.name: convert(row, given[row.name], flag(row), error) for row in rows if row.name in given}


def convert(row: Field, text: str, source: str, error: type[UserError]) -> Any:
    """The value of a field from its text. Raises `error`, naming the `source` of the text: a flag or a variable."""
    try:
        value = _kind(row)(text)
    except ValueError:
        raise error(f"{source} is {text!r}; expected {_expected(row)}") from None
    _check(row, value, source, error)
    return value


def check_fields(owner: Any, error: type[UserError]) -> None:
    """For `__post_init__` of a dataclass: raises `error` for a value outside of its field's limits."""
    for row in fields(owner):
        _check(row, getattr(owner, row.name), flag(row), error)


def flag(row: Field) -> str:
    """The field `max_seq_len` as "--max-seq-len"."""
    return "--" + row.name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    refusal: type[UserError]

    def error(self, message: str) -> NoReturn:
        raise self.refusal(f"{message}; see {self.prog} --help")


def _kind(row: Field) -> type:
    if not isinstance(row.type, type):
        raise TypeError(f"the type of {row.name} is {row.type!r}; expected str, int or float")
    return row.type


def _help(row: Field) -> str:
    choices = f" ({', '.join(row.metadata['choices'])})" if row.metadata["choices"] else ""
    default = [] if row.default is MISSING else [f"default: {'none' if row.default == '' else row.default}"]
    notes = "; ".join([*default, *row.metadata["notes"]])
    return row.metadata["help"] + choices + (f" [{notes}]" if notes else "")


def _check(row: Field, value: Any, source: str, error: type[UserError]) -> None:
    kind, choices = _kind(row), row.metadata["choices"]
    right_type = isinstance(value, (int, float) if kind is float else kind)
    in_range = kind is str or (right_type and row.metadata["minimum"] <= value <= row.metadata["maximum"])
    if not right_type or not in_range or (choices and value not in choices):
        raise error(f"{source} is {value!r}; expected {_expected(row)}")
    # An empty name would reach the Hub, a file or the socket, and fail there in words about something else.
    if value == "" and row.default != "":
        raise error(f"{source} is empty; expected {row.metadata['help']}")


def _expected(row: Field) -> str:
    low, high, choices = (row.metadata[name] for name in ("minimum", "maximum", "choices"))
    if choices:
        return " or ".join(choices)
    if row.type is str:
        return f"text ({row.metadata['help']})"
    if high == math.inf:
        return f"at least {low}"
    return f"a {'whole number' if row.type is int else 'number'} from {low} to {high}"
