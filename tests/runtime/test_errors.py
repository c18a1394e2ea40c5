"""One base class for what a person can mend: whoever talks to people catches `UserError` and nothing else."""

import importlib
import inspect
import pkgutil

import pytest

from llama_core.checkpoint.hub import Cancelled
from llama_core.errors import UserError

ROOMS = ("runtime", "model", "sampling", "tokenizer", "checkpoint", "training")


def exceptions_of(room):
    package = importlib.import_module(f"llama_core.{room}")
    names = [package.__name__, *(f"{package.__name__}.{info.name}" for info in pkgutil.iter_modules(package.__path__))]
    for module in map(importlib.import_module, names):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, BaseException) and kind.__module__ == module.__name__:
                yield kind


@pytest.mark.parametrize("room", ROOMS)
def test_every_error_of_a_room_is_one_that_a_person_can_mend(room):
    assert [kind for kind in exceptions_of(room) if not issubclass(kind, UserError) and kind is not Cancelled] == []


def test_errors_are_found_by_this_test():
    found = {kind.__name__ for room in ROOMS for kind in exceptions_of(room)}
    assert found >= {"ConfigError", "ModelFileError", "ChatError", "HubError", "MemoryShortage", "InspectionError"}
