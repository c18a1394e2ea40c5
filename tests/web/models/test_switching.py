"""What a model took is given back when another one takes its place: arrays, compiled programs, what looked inside."""

import gc
import threading

import jax
import pytest
from checkpoints import write_checkpoint

from llama_core import SamplingParams
from llama_core.engine import engine as engine_module
from llama_core.model.lens import inspect
from llama_core.runtime.forms import Form
from web.models.manager import ModelManager
from web.settings import Settings

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def few_programs(monkeypatch):
    """Engines that are compiled quickly."""
    monkeypatch.setattr(engine_module, "form_here", lambda *_: Form((4, 8), 3, 2))


def held():
    """What is alive: arrays on the device and their bytes, and compiled programs."""
    arrays = jax.live_arrays()
    compiled = [thing for thing in gc.get_objects() if type(thing) is jax.stages.Compiled]
    return len(arrays), sum(array.nbytes for array in arrays), len(compiled)


def test_after_two_switches_no_more_is_alive_than_before(tmp_path, few_programs):
    names = [str(tmp_path / "small"), str(tmp_path / "larger")]
    write_checkpoint(tmp_path / "small")
    write_checkpoint(tmp_path / "larger", num_hidden_layers=4, hidden_size=96)
    seen = []
    with ModelManager(Settings(slots=1, max_seq_len=64)) as manager:
        for name in (*names, names[0]):
            manager.put(name, lambda *_: None)
            assert list(manager.served.engine.submit([5, 6, 7], SamplingParams(max_new_tokens=4)))
            assert inspect(manager.served.model.params, manager.served.model.config, [5, 6, 7]).ids.size
            for thread in [thread for thread in threading.enumerate() if thread.name == "drain"]:
                thread.join()
            gc.collect()
            seen.append(held())
    assert seen[2] == seen[0] and seen[0][2] > 0
