"""When Python's collector runs in a server. In processes of their own: the collector is one for a whole process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CYCLES = """
import gc, weakref
from llama_core.runtime.host_memory import return_freed_memory, spare_old_objects
class Cycle:
    def __init__(self):
        self.me = self
old = Cycle()
seen = weakref.ref(old)
spare_old_objects()
del old
gc.collect()
print(seen() is not None)
return_freed_memory()
print(seen() is None, gc.get_freeze_count() > 0)
young = weakref.ref(Cycle())
gc.collect()
print(young() is None)
"""
UNTOUCHED = """
import gc
before = gc.get_threshold()
from llama_core.runtime.host_memory import return_freed_memory
return_freed_memory()
print(gc.get_freeze_count(), gc.get_threshold() == before)
"""


def printed(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_old_objects_are_passed_over_until_a_model_was_let_go():
    assert printed(CYCLES) == ["True"] * 4


def test_a_program_that_spares_nothing_collects_as_ever():
    assert printed(UNTOUCHED) == ["0", "True"]
