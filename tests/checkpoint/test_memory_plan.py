"""What a model takes against what JAX and XLA really allocate; refusals with numbers and a remedy that is true."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from llama_core import load_checkpoint
from llama_core.checkpoint import memory_plan
from llama_core.checkpoint.memory_plan import MemoryShortage, Plan, best_dtype, free_bytes, require_memory
from llama_core.model.config import NAMED_CONFIGS
from llama_core.model.llama import init_cache, model_forward
from llama_core.model.params import init_model_params
from llama_core.model.rope_scaling import RopeScaling
from llama_core.runtime import forms

TINY, LARGE = NAMED_CONFIGS["tiny"], NAMED_CONFIGS["8B"]


def test_weights_and_cache_are_what_is_allocated():
    plan = Plan(TINY, "bfloat16", 3, 512)
    params = init_model_params(jax.random.key(0), TINY, jnp.bfloat16)
    assert plan.params == sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert plan.cache == sum(leaf.nbytes for leaf in jax.tree.leaves(init_cache(TINY, 3, 512, jnp.bfloat16)))
    assert Plan(TINY, "float32", 1, 10**6).cache == Plan(TINY, "float32", 1, TINY.max_position_embeddings).cache


@pytest.mark.parametrize("config", [TINY, NAMED_CONFIGS["135M"]], ids=["tiny", "135M"])
def test_the_workspace_holds_what_xla_asks_for(config):
    params = jax.eval_shape(lambda: init_model_params(jax.random.key(0), config))
    cache = jax.eval_shape(lambda: init_cache(config, 1, 1024))
    tokens = jax.ShapeDtypeStruct((1, max(forms.PLAIN.chunk_sizes)), jnp.int32)

    def chunk(params, cache, tokens):  # as when serving: of the logits one row is wanted
        logits, cache = model_forward(params, tokens, config, cache, 0)
        return logits[:, -1], cache

    asked = jax.jit(chunk, donate_argnums=1).lower(params, cache, tokens).compile().memory_analysis().temp_size_in_bytes
    assert asked <= Plan(config, "float32", 4, 1024).workspace * 1.5


def test_the_workspace_is_that_of_the_form_that_runs():
    """A GPU reads longer chunks than a CPU; cuDNN keeps no scores."""
    plain, masked, cudnn = (
        Plan(TINY, "bfloat16", 4, 2048, form=form).workspace for form in (forms.PLAIN, forms.MASKED, forms.CUDNN)
    )
    longer = dataclasses.replace(forms.MASKED, chunk_sizes=(2048,))
    activations = 4 * (8 * TINY.hidden_size + 3 * TINY.intermediate_size)
    scores = 4 * 2 * TINY.num_attention_heads * 2048
    assert plain == masked == Plan(TINY, "bfloat16", 4, 2048).workspace
    assert Plan(TINY, "bfloat16", 4, 2048, form=longer).workspace - masked == (2048 - 512) * (activations + scores)
    assert cudnn - masked == (2048 - 512) * activations - 512 * scores
    short = Plan(TINY, "bfloat16", 4, 200, form=forms.CUDNN).workspace  # its largest chunk is the one of 256
    assert short == Plan(TINY, "bfloat16", 4, 200, form=dataclasses.replace(forms.CUDNN, chunk_sizes=(256,))).workspace


def test_the_largest_array_may_be_another_than_the_embedding():
    wide = dataclasses.replace(TINY, intermediate_size=2000 * TINY.hidden_size)
    largest = max(
        leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: init_model_params(jax.random.key(0), wide)))
    )
    assert largest > wide.vocab_size * wide.hidden_size and Plan(wide, "float32", 1, 256).workspace >= 4 * largest


def test_one_look_inside_has_room_beside_the_replies():
    config = NAMED_CONFIGS["135M"]
    shorter, longer = (Plan(config, "float32", 4, length).workspace for length in (1024, 4096))
    scores = 4 * config.num_attention_heads * (4096 - 1024) * 2 * max(forms.PLAIN.chunk_sizes)
    assert longer - shorter - scores >= 4 * (4096 - 1024) * 2 * config.hidden_size  # what all tokens are at a layer


def test_what_fits_passes():
    require_memory(TINY, "float32", 4, 2048, free=10**9)
    require_memory(LARGE, "bfloat16", 1, 2048, free=24 * 10**9)


@pytest.mark.parametrize(
    ("dtype", "slots", "length", "free", "remedy"),
    [
        ("bfloat16", 4, 131072, 24e9, "--max-seq-len"),
        ("bfloat16", 64, 256, 18.2e9, "--slots"),
        ("float32", 1, 256, 24e9, "--dtype bfloat16"),
        ("float32", 8, 131072, 24e9, "--dtype bfloat16 "),
        ("bfloat16", 2, 2048, 12e9, "--quantize q8"),
    ],
)
def test_a_refusal_names_the_numbers_and_what_would_fit(dtype, slots, length, free, remedy):
    with pytest.raises(MemoryShortage, match=remedy) as refusal:
        require_memory(LARGE, dtype, slots, length, free=int(free))
    words = str(refusal.value)
    plan = Plan(LARGE, dtype, slots, length)
    for number in (plan.total, plan.params, plan.cache, plan.workspace, free):
        assert f"{number / 1e9:.2f} GB" in words
    said = {name.replace("-", "_"): value for name, value in re.findall(r"--([a-z-]+) (\w+)", words)}
    said = {name: int(value) if value.isdecimal() else value for name, value in said.items()}
    require_memory(LARGE, **{"dtype": dtype, "slots": slots, "max_seq_len": length, **said}, free=int(free))


def test_what_never_fits_is_said():
    with pytest.raises(MemoryShortage, match="choose a smaller model or a machine with more memory"):
        require_memory(LARGE, "float32", 4, 2048, free=10**9)


def test_a_model_is_refused_before_memory_is_taken(checkpoint):
    before = len(jax.live_arrays())

    def check(config, dtype):
        require_memory(config, dtype, 4, 512, free=1000)

    for name in (checkpoint[0], "random:8B"):
        with pytest.raises(MemoryShortage):
            load_checkpoint(name, check=check)
    assert len(jax.live_arrays()) == before


def test_this_machine_says_what_is_free():
    free = free_bytes(jax.devices()[0])
    assert free is None or 10**7 < free < 10**14


def test_a_container_has_less_than_its_machine(tmp_path):
    assert memory_plan._container_free(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert memory_plan._container_free(tmp_path) == [450]
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_plan._container_free(tmp_path) == []


@pytest.mark.parametrize(
    ("platform", "capability", "dtype"),
    [
        ("cpu", None, "float32"),
        ("gpu", "7.5", "float16"),
        ("gpu", "8.0", "bfloat16"),
        ("gpu", "10.0", "bfloat16"),
        ("gpu", "12", "bfloat16"),
        ("gpu", "gfx90a", "bfloat16"),
        ("tpu", None, "bfloat16"),
    ],
)
def test_each_device_gets_the_format_it_computes_best(platform, capability, dtype, unchecked_types):
    device = SimpleNamespace(platform=platform, **({"compute_capability": capability} if capability else {}))
    assert best_dtype(device) == dtype


def test_auto_is_float32_on_this_cpu(checkpoint):
    if jax.devices()[0].platform == "cpu":
        assert load_checkpoint(checkpoint[0], dtype="auto").dtype == "float32"


def test_gpus_are_asked_what_is_left(unchecked_types):
    stats = {"bytes_limit": 100, "bytes_in_use": 30}
    assert free_bytes(SimpleNamespace(platform="gpu", memory_stats=lambda: stats)) == 70
    assert free_bytes(SimpleNamespace(platform="gpu", memory_stats=lambda: None)) is None
    require_memory(dataclasses.replace(LARGE, num_hidden_layers=1000), "float32", 1, 256, free=10**15)


def test_a_context_that_nobody_asked_for_is_as_long_as_fits():
    plenty = Plan(LARGE, "bfloat16", 4, 4096).total
    assert memory_plan.fitting_context(LARGE, "bfloat16", 4, plenty) == 4096
    shorter = memory_plan.fitting_context(LARGE, "bfloat16", 4, plenty - 1)
    assert shorter == 2048 and Plan(LARGE, "bfloat16", 4, shorter).total < plenty
    assert memory_plan.fitting_context(TINY, "float32", 4, plenty) == TINY.max_position_embeddings
    with pytest.raises(MemoryShortage, match="x 256 tokens"):
        memory_plan.fitting_context(LARGE, "bfloat16", 4, 10**9)


def test_dynamic_rope_goes_past_the_trained_length():
    stretched = dataclasses.replace(TINY, rope_scaling=RopeScaling("dynamic", factor=2.0), max_position_embeddings=512)
    assert memory_plan.fitting_context(stretched, "float32", 4, 10**12) == 1024
    plans = [Plan(stretched, "float32", 4, length) for length in (512, 1024, 2048)]
    assert plans[1].cache == 2 * plans[0].cache == plans[2].cache and plans[1].workspace == plans[2].workspace


def card(free, capability="9.0"):
    stats = {"bytes_limit": int(free) + 10, "bytes_in_use": 10}
    return SimpleNamespace(
        platform="gpu", memory_stats=lambda: stats, compute_capability=capability, device_kind="Some card"
    )


def test_a_gpu_gets_as_many_slots_as_it_has_room_for(unchecked_types):
    plan = Plan(LARGE, "bfloat16", 1, 4096)
    sizes = {slots: dataclasses.replace(plan, slots=slots).total for slots in (4, 8, 16, 32)}
    for slots, size in sizes.items():
        assert memory_plan.fitting_slots(plan, card(size)) == slots
    assert memory_plan.fitting_slots(plan, card(10**12)) == 32 and memory_plan.fitting_slots(plan, card(10**9)) == 4
    assert memory_plan.fitting_slots(plan, SimpleNamespace(platform="cpu")) == 4


def test_bfloat16_on_a_card_that_has_none_is_refused_with_a_remedy(unchecked_types):
    with pytest.raises(memory_plan.BadFormat, match=r"Some card .* 8\.0 .* has 7\.5; .*--dtype float16"):
        memory_plan.resolve_dtype("bfloat16", card(1, "7.5"))
    assert memory_plan.resolve_dtype("auto", card(1, "7.5")) == "float16"
    assert memory_plan.resolve_dtype("bfloat16", card(1, "8.6")) == "bfloat16"


def test_running_out_of_memory_is_said_with_numbers_and_what_would_fit():
    plan = Plan(LARGE, "bfloat16", 32, 4096)
    words = memory_plan.no_room(plan)
    for number in (plan.total, plan.params, plan.cache, plan.workspace):
        assert f"{number / 1e9:.2f} GB" in words
    said = {name.replace("-", "_"): int(value) for name, value in re.findall(r"--([a-z-]+) (\d+)", words)}
    smaller = dataclasses.replace(plan, **said)
    assert smaller.total - plan.params <= (plan.total - plan.params) / 2 and "\n" not in words
