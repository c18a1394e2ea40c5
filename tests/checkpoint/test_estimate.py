"""What a model will take is said of the weights that are stored, not of what the config says about them."""

import math

import jax
import numpy as np
import pytest
from checkpoints import edit_tensors, write_checkpoint

from llama_core import load_checkpoint
from llama_core.checkpoint.estimate import estimate
from llama_core.checkpoint.find_tensors import EMBEDDING, HEAD


def numbers_in(model):
    return sum(math.prod(array.shape) for array in jax.tree.leaves(model.params))


@pytest.mark.parametrize("head", ["none", "own", "copy of the embedding"])
def test_the_stored_head_of_a_tied_model_is_counted_as_it_is_loaded(tmp_path, head):
    write_checkpoint(tmp_path, tie_word_embeddings=True)
    heads = {"own": lambda given: np.ones_like(given), "copy of the embedding": np.copy}
    if head in heads:
        edit_tensors(tmp_path, lambda tensors: tensors.update({HEAD: heads[head](tensors[EMBEDDING])}))
    model, found = load_checkpoint(tmp_path), estimate(str(tmp_path), "float32", 2, 256)
    assert found.parameters == numbers_in(model) == model.parameter_count
    assert found.plan.params == sum(array.nbytes for array in jax.tree.leaves(model.params))


def test_a_head_that_the_index_names_is_counted_before_the_shards_are_there(tmp_path):
    write_checkpoint(tmp_path, tie_word_embeddings=True)
    without = estimate(str(tmp_path), "float32", 2, 256).parameters
    write_checkpoint(tmp_path, tie_word_embeddings=True, shard_size="100KB")
    (tmp_path / "model.safetensors").unlink()
    shards = list(tmp_path.glob("model-*.safetensors"))
    index = tmp_path / "model.safetensors.index.json"
    shards[0].unlink()
    assert estimate(str(tmp_path), "float32", 2, 256).parameters == without
    index.write_text(index.read_text().replace('"weight_map": {', f'"weight_map": {{"{HEAD}": "{shards[0].name}",'))
    assert estimate(str(tmp_path), "float32", 2, 256).parameters == without + 320 * 64
