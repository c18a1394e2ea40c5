"""Which part of a model each of several devices has. The parameter table says along which axis an array is cut; here
that becomes places for arrays, and programs over all devices (`jax.shard_map`): each device runs the program of one
device on a model of fewer heads, and `collectives.py` joins what they found.

An axis that does not divide evenly is not cut: then every device has the arrays whole, and computes with all of them.
Arrays themselves say how they lie (`mesh_of`), so that who passes weights on need not.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from llama_core.errors import UserError
from llama_core.model.config import LlamaConfig
from llama_core.model.kv_cache import CacheLayout
from llama_core.model.mesh.collectives import AXIS, CutMatrix
from llama_core.model.parameter_table import Placement
from llama_core.model.params import Params, build_params, placed, placements
from llama_core.model.quantization import GROUP, Bfloat16Matrix, QuantizedMatrix, is_quantized
from llama_core.runtime.cores import usable_cores

AUTOMATIC = 0  # as a number of devices: what there is
# For each axis that may be cut what has to divide evenly, and what is cut with it, in words.
DIVIDED: dict[str, tuple[Callable[[LlamaConfig], int], str]] = {
    "K": (lambda config: config.num_key_value_heads, "key/value heads"),
    "HE": (lambda config: config.num_key_value_heads, "key/value heads"),
    "F": (lambda config: config.intermediate_size, "hidden units of a feed-forward layer"),
    "V": (lambda config: config.vocab_size, "tokens of the vocabulary"),
}
WHOLE = PartitionSpec()


class MeshError(UserError):
    """Devices over which a model cannot be cut; one line that says why and what would do."""


def choose_devices(asked: int, config: LlamaConfig) -> int:
    """Over how many devices a model of this shape is cut. AUTOMATIC: as many of the accelerators as divide everything
    evenly, also in groups of small numbers; one on a CPU, whose virtual devices share its cores.

    Raises `MeshError` for more devices than there are, and where nothing divides.
    """
    there = jax.device_count()
    if jax.process_count() > 1 and asked not in (AUTOMATIC, there):
        raise MeshError(f"--mesh {asked}: the hosts have {there} devices, and each has to take part; leave it out")
    if jax.process_count() > 1:
        asked = there
    elif asked == AUTOMATIC and jax.devices()[0].platform == "cpu":
        asked = 1
    return choose_among(there, asked, config)


def choose_among(there: int, asked: int, config: LlamaConfig) -> int:
    """`choose_devices` for a machine that has so many accelerators."""
    if asked == AUTOMATIC:
        return next(count for count in range(there, 0, -1) if count == 1 or _divides_well(config, count))
    if asked > there:
        raise MeshError(f"--mesh {asked}: there are {there} devices; choose at most so many")
    if asked > 1 and not any(_is_cut(axis, config, asked) for axis in ("K", "F")):
        raise MeshError(
            f"--mesh {asked}: neither the {config.num_key_value_heads} key/value heads nor the "
            f"{config.intermediate_size} hidden units of this model divide by {asked}; choose a divisor of one of them"
        )
    return asked


def _divides_well(config: LlamaConfig, devices: int) -> bool:
    widths = config.num_attention_heads * config.head_dim, config.intermediate_size
    return all(_is_cut(axis, config, devices) for axis in DIVIDED) and not any(
        width % (GROUP * devices) for width in widths
    )


def _is_cut(axis: str, config: LlamaConfig, devices: int) -> bool:
    return devices > 1 and axis in DIVIDED and DIVIDED[axis][0](config) % devices == 0


def describe_whole(config: LlamaConfig, devices: int) -> list[str]:
    """A note for each axis that does not divide."""
    whole = {words: count(config) for count, words in DIVIDED.values() if devices > 1 and count(config) % devices}
    return [
        f"{number} {words} do not divide by {devices} devices: each of them has and computes all of these"
        for words, number in whole.items()
    ]


def cut_dimension(placement: Placement, devices: int) -> int | None:
    """Which of the axes of an array is cut over so many devices; None: each has all of it."""
    row = placement.row
    return row.axes.split().index(row.cut) if _is_cut(row.cut, placement.config, devices) else None


def share_of_weights(config: LlamaConfig, devices: int) -> float:
    """How much of all weights each device has."""
    sizes = [
        (math.prod(placement.shape), cut_dimension(placement, devices) is None) for placement in placements(config)
    ]
    mine = sum(size if is_whole else size / devices for size, is_whole in sizes)
    return mine / sum(size for size, _ in sizes)


def share_of_cache(config: LlamaConfig, devices: int) -> float:
    """How much of the KV cache each device has."""
    return 1 / devices if _is_cut("K", config, devices) else 1


def place(placement: Placement, weight: Any, devices: int) -> Any:
    """An array of a model where it belongs: each of the devices gets its own part and nothing else.

    Raises `MeshError` for small numbers whose groups would be parted.
    """
    if devices == 1:
        return jax.device_put(weight)
    dimension = cut_dimension(placement, devices)
    if dimension == len(placement.shape) - 1 and is_quantized(weight):
        _require_whole_groups(placement, weight, devices)
    mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))
    return jax.tree.map(lambda leaf: _put(leaf, mesh, _spec(leaf.shape, dimension)), weight)


def _require_whole_groups(placement: Placement, weight: QuantizedMatrix, devices: int) -> None:
    group = 1 if isinstance(weight, Bfloat16Matrix) else GROUP
    if weight.columns % (group * devices):
        raise MeshError(
            f"--mesh {devices}: the rows of {placement.row.field} have {weight.columns} small numbers in groups of "
            f"{group}, which cannot be cut into {devices}; choose fewer devices, or --quantize none"
        )


def _spec(shape: tuple[int, ...], dimension: int | None) -> PartitionSpec:
    """One scale for a whole row is not cut with it."""
    return WHOLE if dimension is None or shape[dimension] == 1 else PartitionSpec(*(None,) * dimension, AXIS)


def _put(array: Any, mesh: Mesh, spec: PartitionSpec) -> Array:
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, NamedSharding(mesh, spec), lambda index: host[index])


def mesh_of(arrays: object) -> Mesh | None:
    """The devices over which these arrays are cut; None: they are on one device."""
    found = (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(arrays))
    meshes = (sharding.mesh for sharding in found if isinstance(sharding, NamedSharding))
    return next((mesh for mesh in meshes if isinstance(mesh, Mesh)), None)


def devices_of(arrays: object) -> int:
    """Over how many devices these arrays are cut."""
    mesh = mesh_of(arrays)
    return 1 if mesh is None else mesh.size


def describe_devices(count: int) -> str:
    """So many devices in words."""
    device = jax.devices()[0]
    kind = f"CPU, {usable_cores()} cores" if device.platform == "cpu" else device.device_kind
    return kind if count == 1 else f"{count} devices ({kind})"


def on_every_device(tree: Any, mesh: Mesh | None) -> Any:
    """The same arrays whole on every device of the mesh."""
    return tree if mesh is None else jax.tree.map(lambda leaf: _put(leaf, mesh, WHOLE), tree)


def cache_sharding(config: LlamaConfig, layout: CacheLayout, mesh: Mesh | None) -> NamedSharding | None:
    """Where the layers of a cache lie: each device has the heads that it computes."""
    if mesh is None:
        return None
    return NamedSharding(mesh, _spec((0,) * 4, layout.heads if _is_cut("K", config, mesh.size) else None))


def part_of(config: LlamaConfig, mesh: Mesh | None) -> LlamaConfig:
    """The model that one device runs: the same with its share of the heads."""
    if mesh is None or not _is_cut("K", config, mesh.size):
        return config
    heads, kv_heads = config.num_attention_heads // mesh.size, config.num_key_value_heads // mesh.size
    return dataclasses.replace(config, num_attention_heads=heads, num_key_value_heads=kv_heads)


def with_collectives(params: Params, config: LlamaConfig, mesh: Mesh | None) -> Params:
    """The weights as a program inside `jax.shard_map` takes them: those whose products have to be joined say so."""
    if mesh is None:
        return params
    weights = iter([weight for _, weight in placed(config, params)])

    def mark(placement: Placement) -> Any:
        weight, dimension = next(weights), cut_dimension(placement, mesh.size)
        is_cut_by_columns = placement.row.is_matrix and dimension == len(placement.shape) - 1
        if is_cut_by_columns and isinstance(weight, QuantizedMatrix):
            weight = dataclasses.replace(weight, columns=weight.columns // mesh.size)
        is_cut_by_words = placement.row.cut == "V" and dimension is not None
        return CutMatrix(weight, is_cut_by_columns) if is_cut_by_columns or is_cut_by_words else weight

    return build_params(config, mark)


def jit_over(mesh: Mesh | None, function: Callable[..., Any], arguments: tuple, donates: bool) -> Any:
    """`function` to be compiled for these arguments, on one device or on all of a mesh. What it `donates` is its second
    argument, which is the first of its two results; everything else that comes out is whole on every device."""
    donated = 1 if donates else ()
    if mesh is None:
        return jax.jit(function, donate_argnums=donated)
    specs = jax.tree.map(lambda leaf: getattr(getattr(leaf, "sharding", None), "spec", WHOLE), arguments)
    results = (specs[1], WHOLE) if donates else WHOLE
    everywhere = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=results, check_vma=False)
    inputs, outputs = (jax.tree.map(lambda spec: NamedSharding(mesh, spec), tree) for tree in (specs, results))
    return jax.jit(everywhere, donate_argnums=donated, in_shardings=inputs, out_shardings=outputs)
