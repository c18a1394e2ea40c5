"""GGUF files that are cut off, changed or made to do harm: refused in one line, in little memory and time."""

import struct
import tracemalloc

import numpy as np
import pytest
from checkpoints import reference_model
from gguf_files import TEMPLATE, write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_core import load_checkpoint
from llama_core.checkpoint.gguf.header import local_file, read_header
from llama_core.checkpoint.layout import CheckpointError
from llama_core.checkpoint.memory_plan import require_memory
from llama_core.errors import UserError

STRING, ARRAY, UINT32 = 8, 9, 4
HUGE = 2**62


@pytest.fixture(autouse=True)
def as_in_production(unchecked_types):
    """The tests' own type checker would refuse before our code does."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a small model, with all that a file has."""
    path = tmp_path_factory.mktemp("whole") / "x.gguf"
    theirs = reference_model(num_hidden_layers=1, vocab_size=288, hidden_size=64, intermediate_size=64)
    changes = {"tokenizer.chat_template": TEMPLATE, "llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0}
    return write_gguf(path, theirs, kind="Q8_0", changes=changes).read_bytes()


def loads_or_is_refused(path, quantize="none"):
    def check(plan):
        require_memory(plan, free=10**9)

    try:
        return load_checkpoint(path, quantize=quantize, kernels="off", check=check)
    except UserError as problem:
        assert str(problem) and "\n" not in str(problem) and len(str(problem)) < 1000


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_whole_file_loads(whole, tmp_path):
    """Else all of this would prove nothing."""
    (tmp_path / "x.gguf").write_bytes(whole)
    assert loads_or_is_refused(tmp_path / "x.gguf").chat.has_template


@given(data=st.data())
@FUZZ
def test_changed_bytes(whole, tmp_path, data):
    """Most of them in the header, where counts, lengths and offsets are."""
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 1500) | st.integers(0, 12000) | st.integers(0, len(whole) - 1))
        changed[place] = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255]))
    (tmp_path / "x.gguf").write_bytes(changed)
    loads_or_is_refused(tmp_path / "x.gguf", data.draw(st.sampled_from(["none", "q8"])))


@given(share=st.floats(0, 1))
@settings(FUZZ, max_examples=60)
def test_a_file_that_ends_early(whole, tmp_path, share):
    (tmp_path / "x.gguf").write_bytes(whole[: int(share * (len(whole) - 1))])
    with pytest.raises(UserError):
        load_checkpoint(tmp_path / "x.gguf")


@given(content=st.binary(max_size=200), begins=st.booleans())
@settings(FUZZ, max_examples=60)
def test_any_bytes(tmp_path, content, begins):
    start = b"GGUF" + struct.pack("<I", 3) if begins else b""
    (tmp_path / "x.gguf").write_bytes(start + content)
    with pytest.raises(UserError):
        load_checkpoint(tmp_path / "x.gguf")


def header(keys=(), tensors=(), version=3, counts=None, padding=4096):
    """A file of these keys (name, type, bytes) and tensors (name, axes, type, offset), which need not make sense."""
    counts = counts or (len(tensors), len(keys))
    parts = [b"GGUF", struct.pack("<IQQ", version, *counts)]
    parts += [text(name) + struct.pack("<I", kind) + value for name, kind, value in keys]
    for name, axes, kind, offset in tensors:
        parts.append(text(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, kind, offset))
    return b"".join(parts) + bytes(padding)


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


LIES = {
    "tensors without end": (header(counts=(HUGE, 0)), r"it claims 0 keys and 4611686018427387904 tensors"),
    "keys without end": (header(counts=(0, HUGE)), r"it claims 4611686018427387904 keys"),
    "a huge key": (header(counts=(0, 1), padding=0) + struct.pack("<Q", HUGE), "a key claims 4611686018427387904"),
    "a huge string": (header([("a", STRING, struct.pack("<Q", HUGE))]), "'a' claims 4611686018427387904 bytes"),
    "a huge string that could fit": (header([("a", STRING, struct.pack("<Q", 2**24))]), "asks for 16777216 more bytes"),
    "a huge array": (header([("a", ARRAY, struct.pack("<IQ", UINT32, HUGE))]), "'a' claims 4611686018427387904 items"),
    "an array of 16 MB": (header([("a", ARRAY, struct.pack("<IQ", UINT32, 2**22))]), "asks for 16777216 more bytes"),
    "four million strings": (header([("a", ARRAY, struct.pack("<IQ", STRING, 2**22))]), "asks for 33554432 more bytes"),
    "arrays in arrays": (header([("a", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "'a' is an array of type 9"),
    "a strange type": (header([("a", 77, b"")]), "'a' has a value of type 77"),
    "a key twice": (header([("a", UINT32, bytes(4))] * 2), "the key 'a' is there twice"),
    "no text": (header([("a", STRING, struct.pack("<Q", 2) + b"\xff\xff")]), "'a' is not text in UTF-8"),
    "no alignment": (header([("general.alignment", UINT32, bytes(4))]), "general.alignment is 0; expected a power"),
    "a strange alignment": (header([("general.alignment", STRING, text("x"))]), "general.alignment is 'x'"),
    "no axes": (header(tensors=[("t", (), 0, 0)]), "tensor 't' has 0 axes"),
    "nine axes": (header(tensors=[("t", (1,) * 9, 0, 0)]), "tensor 't' has 9 axes"),
    "a huge tensor": (header(tensors=[("t", (HUGE, HUGE), 0, 0)]), "tensor 't' reaches past the end of the file"),
    "a tensor behind the end": (header(tensors=[("t", (4,), 0, HUGE)]), "tensor 't' reaches past the end"),
    "half a block": (
        header(tensors=[("t", (33,), 8, 0)]),
        "tensor 't' has rows of 33 numbers, which Q8_0 cannot store",
    ),
    "an unknown format": (
        header(tensors=[("t", (32,), 99, 0)]),
        "tensor 't' is stored in format 99.*update the package",
    ),
    "a tensor twice": (header(tensors=[("t", (4,), 0, 0), ("t", (4,), 0, 32)]), "two tensors have the same name"),
    "tensors over each other": (header(tensors=[("t", (9,), 0, 0), ("u", (4,), 0, 32)]), "tensor 'u' lies within"),
    "version 1": (header(version=1), "it is of version 1; expected version 2 or 3"),
    "big-endian": (header(version=3 << 24), "in the byte order of other processors"),
    "no key that says what it is": (header(), "architecture '' is not supported"),
    "a line break in a name": (header([("a\nb", 77, b"")]), r"'a\\nb' has a value of type 77"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path, lie):
    content, words = LIES[lie]
    (tmp_path / "x.gguf").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="x.gguf.*" + f"(?:{words})") as refusal:
            load_checkpoint(tmp_path / "x.gguf")
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refusal.value)


def test_a_header_may_be_no_larger_than_any_real_one(tmp_path):
    """A file of hundreds of gigabytes could hold a header of as many."""
    path = tmp_path / "x.gguf"
    path.write_bytes(
        header([(f"a{i}", ARRAY, struct.pack("<IQ", 0, 2**22) + bytes(2**22)) for i in range(9)], padding=0)
    )
    with pytest.raises(CheckpointError, match="x.gguf: its header has more than 33554432 bytes"):
        read_header(local_file(path))


MODEL = dict(num_hidden_layers=1, intermediate_size=128)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general.architecture": "gptneox"}, "architecture 'gptneox' is not supported; expected llama, qwen2, qwen3"),
        ({"llama.expert_count": 8}, "is a mixture of experts, which is not supported"),
        ({"llama.block_count": None}, "has no key llama.block_count"),
        ({"llama.block_count": 2}, r"tensor blk.1.attn_norm.weight is missing \(9 of 21 are\)"),
        ({"llama.block_count": 10**6}, "num_hidden_layers is 1000000; expected a whole number from 1 to 1000"),
        ({"llama.embedding_length": 32, "llama.attention.key_length": 8}, r"token_embd.weight is \[320, 64\], its"),
        ({"llama.attention.head_count": [8, 8]}, r"llama.attention.head_count is \[8, 8\]; expected a number"),
        ({"llama.attention.head_count": "8"}, "llama.attention.head_count is '8'; expected a number"),
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count is 4 in heads of 8"),
        ({"llama.attention.value_length": 16}, "llama.attention.value_length is 16 in heads of 8"),
        ({"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 2.0}, "rope_type 'longrope' is not"),
        ({"llama.rope.freq_base": -1.0}, "rope_theta is -1.0"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "rms_norm_eps is nan"),
        ({"tokenizer.ggml.model": "bert"}, "the tokenizer 'bert' is not supported"),
        ({"tokenizer.chat_template": "{{ x"}, "the chat template is not valid Jinja"),
        ({"split.count": 2}, "x.gguf is part 0 of 2 by its metadata, expected part 0 of 1"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_key(tmp_path, changes, words):
    path = write_gguf(tmp_path / "x.gguf", reference_model(**MODEL), changes=changes)
    with pytest.raises(UserError, match=words) as refusal:
        load_checkpoint(path)
    assert "\n" not in str(refusal.value)


def test_tensors_that_do_not_belong_to_the_model_are_refused_by_name(tmp_path):
    extra = [("blk.0.ffn_gate_exps.weight", np.ones((4, 32)))]
    path = write_gguf(tmp_path / "x.gguf", reference_model(**MODEL), tensors=extra)
    with pytest.raises(CheckpointError, match="tensor 'blk.0.ffn_gate_exps.weight' is not part of the 1-layer llama"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(tmp_path, value):
    theirs = reference_model(**MODEL)
    theirs.model.norm.weight.data[3] = value
    with pytest.raises(UserError, match="tensor output_norm.weight holds NaN or infinity"):
        load_checkpoint(write_gguf(tmp_path / "x.gguf", theirs))


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "x.gguf", reference_model(**MODEL))
    whole = path.read_bytes()
    monkeypatch.setattr("llama_core.checkpoint.load.gguf_id", lambda *_: path.write_bytes(whole[:-300]) and "id")
    with pytest.raises(UserError, match="x.gguf ends within tensor"):
        load_checkpoint(path)
