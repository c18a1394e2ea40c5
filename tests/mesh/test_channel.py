"""What hosts say to each other."""

import json
import socket
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llama_core import LlamaConfig, SamplingParams
from llama_core.engine.device_state import new_slot_state
from llama_core.engine.device_work import DeviceResult, PrefillChunk
from llama_core.engine.hosts.channel import LENGTH, LostHost, Message, receive, send
from llama_core.engine.hosts.follower import Replay
from llama_core.engine.hosts.leader import Leader, LeadingPrograms, accept


@pytest.fixture
def pair():
    ends = socket.socketpair()
    for end in ends:
        end.settimeout(30)
    yield ends
    for end in ends:
        end.close()


CONFIG = LlamaConfig(vocab_size=50, hidden_size=16, num_attention_heads=2)
NOTHING = DeviceResult(np.zeros(1), {})
ANSWERS = {"prefill_layers": NOTHING, "sample_first": (NOTHING, np.zeros(1)), "decode": NOTHING}


class Recorded:
    """Programs that keep what they are called with."""

    num_layer_groups = 3

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            if name == "start_prefill":
                return PrefillChunk(arguments[0], arguments[2], len(arguments[1]), jnp.zeros((1, 8, 16)))
            return ANSWERS.get(name)

        return call


def test_a_follower_is_called_as_the_first_host_is(pair):
    """Every call of a chat, over a socket: two chunks, a copied prefix, a change of parameters, a grammar's mask."""
    mine, theirs = Recorded(), Recorded()
    leading = LeadingPrograms(mine, lambda message: send(pair[0], message))
    replay = Replay(theirs, CONFIG)
    params = SamplingParams(temperature=0.7, seed=3, logit_bias={5: 2.5}, repetition_penalty=1.2)
    row = new_slot_state([4, 5], [6], 1, 30, [2], params, 50)
    leading.prepare(1, row, True)
    leading.copy_prefix(0, 1, 7)
    chunks = [leading.start_prefill(1, [4, 5, 6], 7), leading.start_prefill(0, [8], 0)]
    for chunk in chunks:
        leading.prefill_layers(chunk, 3)
    leading.sample_first(chunks[0])
    leading.allow(1, np.arange(50) % 2 == 0)
    leading.decode([1, 0], 8)
    leading.clear_slot(0)
    for _ in mine.calls:
        replay.run(receive(pair[1]))
    assert len(mine.calls) == len(theirs.calls) == 10
    for ours, other in zip(mine.calls, theirs.calls, strict=True):
        assert jax.tree.structure(as_plain(ours)) == jax.tree.structure(as_plain(other))
        jax.tree.map(np.testing.assert_array_equal, as_plain(ours), as_plain(other))


def as_plain(call):
    """A chunk by its slot."""
    return [part.slot if isinstance(part, PrefillChunk) else part for part in call[1:]]


def test_what_is_no_message_is_refused(pair):
    for text, words in (("[]", "no message"), ('["x", [], [["|O", [1]]], ""]', "object"), ("{", "no message")):
        pair[0].sendall(LENGTH.pack(len(text)) + text.encode())
        with pytest.raises(LostHost, match=words):
            receive(pair[1])
    pair[0].sendall(LENGTH.pack(2**31))
    with pytest.raises(LostHost, match="announces 2147483648 bytes"):
        receive(pair[1])
    with pytest.raises(LostHost, match="says 'rm'"):
        Replay(Recorded(), CONFIG).run(Message("rm", (1,)))


def test_an_end_in_the_middle_of_a_message_is_a_lost_host(pair):
    pair[0].sendall(LENGTH.pack(100) + json.dumps(["x"]).encode())
    pair[0].close()
    with pytest.raises(LostHost, match="another host has ended"):
        receive(pair[1])


def test_only_who_knows_the_key_is_let_in():
    key = b"0123456789abcdef"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        ends = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        for end, said in zip(ends, (b"x" * 16, key, key), strict=True):
            end.sendall(said)
        inside = accept(listener, 2, key)
        assert [end.getpeername() for end in inside] == [end.getsockname() for end in ends[1:]]
        for end in (*ends, *inside):
            end.close()


def test_a_lost_follower_is_noticed_and_one_that_is_dismissed_is_not(pair):
    lost, noticed = [], threading.Event()
    leader = Leader([pair[0]])
    leader.on_lost = lambda problem: (lost.append(str(problem)), noticed.set())
    pair[1].sendall(b".")
    pair[1].close()
    assert noticed.wait(30) and lost == ["host 1 of 2 has ended"]
    leader.__exit__()
    ours, theirs = socket.socketpair()
    dismissed = []
    reader = threading.Thread(target=lambda: (dismissed.append(receive(theirs).call), theirs.close()))
    reader.start()
    with Leader([ours]) as leader:
        leader.on_lost = lambda problem: lost.append(str(problem))
    reader.join()
    assert dismissed == ["end"] and len(lost) == 1
