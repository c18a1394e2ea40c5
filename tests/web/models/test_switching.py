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


@pytest.fixture
def few_programs(monkeypatch):
    """Engines that are compiled quickly."""
    monkeypatch.setattr(engine_module, "form_here", lambda *_: Form((4, 8), 3, 2))


def held():
    """What is alive: arrays on the device and their bytes, and compiled programs."""
    arrays = jax.live_arrays()
    compiled = [thing for thing in gc.get_objects() if type(thing) is jax.stages.Compiled]
    return len(arrays), sum(array.nbytes for array in arrays), len(compiled)


def test_after_each_switch_no_more_is_alive_than_after_the_first(tmp_path, few_programs):
    names = [str(tmp_path / "small"), str(tmp_path / "larger")]
    write_checkpoint(tmp_path / "small")
    write_checkpoint(tmp_path / "larger", num_hidden_layers=6, hidden_size=96)
    seen = {name: [] for name in names}
    with ModelManager(Settings(slots=1, max_seq_len=64)) as manager:
        for turn in range(4):
            manager.put(names[turn % 2], lambda *_: None)
            assert list(manager.served.engine.submit([5, 6, 7], SamplingParams(max_new_tokens=4)))
            assert inspect(manager.served.model.params, manager.served.model.config, [5, 6, 7]).ids.size
            for thread in [thread for thread in threading.enumerate() if thread.name == "drain"]:
                thread.join()
            gc.collect()
            seen[names[turn % 2]].append(held())
    for name in names:
        first, *later = seen[name]
        assert later == [first] * len(later) and first[2] > 0
