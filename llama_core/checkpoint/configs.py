"""`config.json` and `generation_config.json` of a folder → `LlamaConfig`, the default sampling parameters, and notes.

The shape of a model has to be right. What its makers recommend does not: a number that cannot be used is ignored, with
a note.
"""

import dataclasses
from pathlib import Path
from typing import Any

from llama_core.checkpoint.layout import CheckpointError
from llama_core.errors import UserError
from llama_core.model.checks import quote_value
from llama_core.model.config import LlamaConfig
from llama_core.runtime.files import read_json
from llama_core.sampling.params import MAX_END_TOKENS, SamplingParams

SAMPLING_KEYS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclasses.dataclass(frozen=True)
class Configs:
    """What the two files say. `notes` are lines for people: what was ignored, and why."""

    config: LlamaConfig
    defaults: SamplingParams
    notes: tuple[str, ...] = ()


def read_config(folder: Path) -> LlamaConfig:
    """What `config.json` alone says. Raises `ConfigError`, `ModelFileError`."""
    return _read_config(folder, [])


def read_configs(folder: Path) -> Configs:
    """Both files; the end tokens of `generation_config.json` go before those that `config.json` names.

    Raises `ConfigError`, `ModelFileError`.
    """
    notes: list[str] = []
    config = _read_config(folder, notes)
    path = folder / "generation_config.json"
    values = read_json(path) if path.is_file() else {}
    ends = _usable_ids(path, "eos_token_id", values.get("eos_token_id"), config.vocab_size, notes)
    if ends:
        # What `config.json` does not name is a default, which is some other token in most vocabularies.
        own = config.eos_token_id if "eos_token_id" in read_json(folder / "config.json") else ()
        ends = tuple(dict.fromkeys((*ends, *own)))[:MAX_END_TOKENS]
        config = dataclasses.replace(config, eos_token_id=ends)
    return Configs(config, _sampling_defaults(path, values, notes), tuple(notes))


def _read_config(folder: Path, notes: list[str]) -> LlamaConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json; give the folder of a model in the Hub's format")
    values = read_json(path)
    keys = [key for key in ("bos_token_id", "eos_token_id") if key in values]
    config = LlamaConfig.from_dict({**values, **dict.fromkeys(keys)})
    ids = {key: _usable_ids(path, key, values[key], config.vocab_size, notes) for key in keys}
    if "bos_token_id" in ids:
        config = dataclasses.replace(config, bos_token_id=next(iter(ids["bos_token_id"]), None))
    return dataclasses.replace(config, eos_token_id=ids.get("eos_token_id", config.eos_token_id))


def _usable_ids(path: Path, key: str, value: object, vocab_size: int, notes: list[str]) -> tuple[int, ...]:
    """The ids in `value`, which is one id or a list of them; what is none goes into `notes`."""
    numbers = [_as_whole(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
    usable = [one for one in numbers if type(one) is int and 0 <= one < vocab_size]  # true and false are an int too
    if len(usable) < len(numbers):
        found = [one for one in numbers if one not in usable] if isinstance(value, list) else value
        notes.append(
            f"{path}: {key} {quote_value(found)} is ignored; expected a whole number from 0 to {vocab_size - 1}"
        )
    usable = list(dict.fromkeys(usable))
    if len(usable) > MAX_END_TOKENS:
        notes.append(f"{path}: {key} holds {len(usable)} ids; those after the first {MAX_END_TOKENS} are ignored")
    return tuple(usable[:MAX_END_TOKENS])


def _as_whole(value: Any) -> Any:
    """50 for 50.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _sampling_defaults(path: Path, values: dict[str, Any], notes: list[str]) -> SamplingParams:
    whole = [name for name, row in SamplingParams.knobs().items() if isinstance(row.default, int)]
    defaults = SamplingParams()
    for name in SAMPLING_KEYS:
        value = _as_whole(values.get(name)) if name in whole else values.get(name)
        if value is None:
            continue
        try:
            defaults = dataclasses.replace(defaults, **{name: value})
        except UserError as problem:
            notes.append(f"{path}: {problem}; it is ignored")
    return dataclasses.replace(defaults, temperature=0.0) if values.get("do_sample") is False else defaults
