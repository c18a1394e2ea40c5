"""What `deploy` is going to do, in full and in words, before anything is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from huggingface_hub import Volume

from llama_core.checkpoint.estimate import estimate
from web.chat.status import bytes_in_words
from web.settings import Settings, read_settings
from web.space.files import app_files, is_hub_id, requirements, written_files
from web.space.hardware import Hardware, SpaceError, find_hardware

MOUNTED_AT = "/models/model"  # where a Space finds the model's repository with `--weights mount`
MODEL = "GLASS_LLAMA_MODEL"
SHARE = 0.9  # of the memory, for weights and cache; the rest is for the system and the libraries


@dataclass(frozen=True)
class Plan:
    """One Space: where, on what, with which model, files and variables. `needed` is the estimate of its memory in
    bytes. `needs_token`: the model is gated or private, so the Space gets a token as a secret."""

    space: str
    model: str
    hardware: Hardware
    variables: dict[str, str]
    files: list[Path]
    written: dict[str, str]
    needed: int
    is_private: bool
    needs_token: bool
    volumes: list[Volume]


def make_plan(
    space: str,
    model: str,
    hardware: str,
    weights: str,
    variables: Mapping[str, str],
    is_private: bool,
    needs_token: bool,
) -> Plan:
    """The plan of a Space `NAME/SPACE`. Raises `SpaceError` for what cannot work, and what `estimate` and the settings
    raise."""
    found = find_hardware(hardware)
    if model and not is_hub_id(model) and not model.startswith("random:"):
        raise SpaceError(
            f"{model!r} is not a model of the Hub; a Space cannot see this machine's files: upload the folder first "
            "(hf upload NAME/MODEL FOLDER)"
        )
    if weights == "mount" and (not is_hub_id(model) or ":" in model or "@" in model):
        raise SpaceError("--weights mount takes a Hub id of safetensors without @revision or :file; leave it out")
    told = {MODEL: MOUNTED_AT if weights == "mount" else model} if model else {}
    told |= _checked(variables)
    settings = read_settings([], {**told, MODEL: model, "SPACE_ID": space})
    return Plan(
        space,
        model,
        found,
        told,
        list(app_files()),
        written_files(settings.title, found, model),
        _needed(settings, found),
        is_private,
        needs_token,
        [Volume(type="model", source=model, mount_path=MOUNTED_AT, read_only=True)] if weights == "mount" else [],
    )


def _checked(variables: Mapping[str, str]) -> dict[str, str]:
    known = [row.metadata["env"] for row in fields(Settings)]
    for name in variables:
        if name not in known:
            raise SpaceError(f"--variable {name}: the app has no such setting; expected one of {', '.join(known)}")
    return dict(variables)


def _needed(settings: Settings, hardware: Hardware) -> int:
    """The bytes that the model takes there. Raises `SpaceError` if that is more than there are."""
    dtype = hardware.dtype if settings.dtype == "auto" else settings.dtype
    found = estimate(settings.model, dtype, settings.slots or 4, settings.max_seq_len or 4096, settings.quantize)
    room = SHARE * hardware.memory * 1e9
    if found.plan.total > room:
        raise SpaceError(
            f"{settings.model} needs {bytes_in_words(found.plan.total)} and {hardware.name} has "
            f"{hardware.memory} GB, of which {bytes_in_words(int(room))} are for the model; choose larger hardware, a "
            "smaller model, or a shorter context (--variable GLASS_LLAMA_MAX_SEQ_LEN=2048)"
        )
    return found.plan.total


def describe(plan: Plan, price: float) -> str:
    """The plan as lines for the terminal. `price` is in dollars an hour."""
    hardware = plan.hardware
    jax = next(line for line in requirements(hardware.has_gpu) if line.startswith("jax"))
    cost = f"${price:.2f} an hour while it runs (it never sleeps by itself; `pause` stops it)" if price else "no charge"
    rows = [
        f"Space      https://huggingface.co/spaces/{plan.space} ({'private' if plan.is_private else 'public'})",
        f"Model      {plan.model or 'the guide, which comes with the app'}",
        f"Hardware   {hardware.name}: {cost}",
        f"Memory     about {bytes_in_words(plan.needed)} of {hardware.memory} GB",
        f"Files      {len(plan.files) + len(plan.written)} ({jax})",
        *(f"Variable   {name}={value}" for name, value in sorted(plan.variables.items())),
        *(f"Volume     {volume.source} at {volume.mount_path}, read only" for volume in plan.volumes),
        *(["Secret     HF_TOKEN, because the model is gated or private"] if plan.needs_token else []),
    ]
    if not price:
        rows.append("Note       creating a CPU Space needs a PRO account, or a Team or Enterprise organisation")
    return "\n".join(rows)
