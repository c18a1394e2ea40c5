"""What a lowered program asks of the device, read from its StableHLO."""

from collections.abc import Iterator


def operations(function, *arguments):
    """The names of all operations of a function that is lowered for a GPU, without those that are not left to the
    device: a choice by platform has one region, or a constant to choose by. (Lowered for a CPU, JAX's random numbers
    have a loop of their own.)"""
    module = function.trace(*arguments).lower(lowering_platforms=("cuda",)).compiler_ir("stablehlo")
    return {
        operation.name.removeprefix("stablehlo.") for operation in walk(module.operation) if not is_decided(operation)
    }


def walk(operation) -> Iterator:
    """An operation and all inside it."""
    yield operation
    for region in operation.regions:
        for block in region:
            for inner in block:
                yield from walk(inner.operation)


def is_decided(operation) -> bool:
    """Whether this is a choice that the compiler makes."""
    if operation.name != "stablehlo.case":
        return False
    index = operation.operands[0].owner
    return len(operation.regions) == 1 or getattr(index, "name", "") == "stablehlo.constant"
