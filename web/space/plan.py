"""What `deploy` is going to do, in full and in words, before anything is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from huggingface_hub import Volume

from llama_core.checkpoint import memory_plan
from llama_core.checkpoint.estimate import estimate
from llama_core.checkpoint.memory_plan import AUTO, LONGEST_AUTOMATIC_CONTEXT, NONE, SLOTS
from llama_core.model.mesh.sharding import choose_among
from web.chat.status import bytes_in_words
from web.settings import Settings, read_settings
from web.space.files import MODEL, app_files, is_hub_id, requirements, written_files
from web.space.hardware import GB, Hardware, SpaceError, find_hardware

MOUNTED_AT = "/models/model"  # where a Space finds the model's repository with `--weights mount`
SHARE = 0.9  # of the memory, for weights and cache; the rest is for the system and the libraries


@dataclass(frozen=True)
class Plan:
    """One Space: where, on what, with which model, files and variables. `memory` is the estimate of what the model
    takes on each device. `needs_token`: the model is gated or private, so the Space gets a token as a secret."""

    space: str
    model: str
    hardware: Hardware
    variables: dict[str, str]
    files: list[Path]
    written: dict[str, str]
    memory: memory_plan.Plan
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
        _memory(settings, found),
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


def _memory(settings: Settings, hardware: Hardware) -> memory_plan.Plan:
    """What the model takes there, run as the app would. Raises `SpaceError` if there is less, and `MeshError`."""
    dtype = hardware.dtype if settings.dtype == AUTO else settings.dtype
    # Small numbers of files stay small only where there are native kernels for them, on CPUs.
    quantize = NONE if hardware.has_gpu and settings.quantize == AUTO else settings.quantize
    context = settings.max_seq_len or LONGEST_AUTOMATIC_CONTEXT
    plan = estimate(settings.model, dtype, settings.slots or SLOTS, context, quantize).plan
    plan = replace(plan, devices=choose_among(max(1, hardware.gpus), settings.mesh, plan.config))
    room = int(SHARE * hardware.memory * GB)
    try:
        if not settings.max_seq_len:
            plan = replace(plan, max_seq_len=memory_plan.fitting_context(plan, room))
        memory_plan.require_memory(plan, room)
    except memory_plan.MemoryShortage:
        raise SpaceError(
            f"{settings.model} needs {bytes_in_words(plan.total)}{_where(plan, hardware)} and {hardware.name} has "
            f"{hardware.memory} GB, of which {bytes_in_words(room)} are for the model; choose larger hardware, a "
            f"smaller model, smaller weights (--variable GLASS_LLAMA_QUANTIZE={'int8' if hardware.has_gpu else 'q8'}), "
            "or a shorter context if you have set one"
        ) from None
    return plan


def _where(plan: memory_plan.Plan, hardware: Hardware) -> str:
    """Of several GPUs, on how many."""
    each = "each of " if plan.devices > 1 else ""
    return f" on {each}{plan.devices} of its {hardware.gpus} GPUs" if hardware.gpus > 1 else ""


def describe(plan: Plan, price: float) -> str:
    """The plan as lines for the terminal. `price` is in dollars an hour."""
    hardware, memory = plan.hardware, plan.memory
    seen_by = "private" if plan.is_private else "public, unless it is private already"
    jax = next(line for line in requirements(hardware.has_gpu) if line.startswith("jax"))
    cost = f"${price:.2f} an hour while it runs (it never sleeps by itself; `pause` stops it)" if price else "no charge"
    return "\n".join(
        (
            f"Space      https://huggingface.co/spaces/{plan.space} ({seen_by})",
            f"Model      {plan.model or 'the guide, which comes with the app'}",
            f"Hardware   {hardware.name}: {cost}",
            f"Memory     about {bytes_in_words(memory.total)} of {hardware.memory} GB{_where(memory, hardware)}",
            f"Context    {memory.max_seq_len} tokens a chat",
            f"Files      {len(plan.files) + len(plan.written)} ({jax})",
            *(f"Variable   {name}={value}" for name, value in sorted(plan.variables.items())),
            *(f"Volume     {volume.source} at {volume.mount_path}, read only" for volume in plan.volumes),
            *(["Secret     HF_TOKEN, because the model is gated or private"] if plan.needs_token else []),
            "Note       creating a Space takes a PRO account, or a Team or Enterprise organisation; a free account has "
            "ZeroGPU alone, which cannot run JAX",
        )
    )
