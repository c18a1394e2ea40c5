"""The mathematics of one update: cross-entropy over the tokens to be learnt, AdamW, and the learning rate."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from llama_core.model.config import LlamaConfig
from llama_core.model.llama import model_forward
from llama_core.model.params import Params, matrices
from llama_core.model.quantization import quantized_matrices
from llama_core.training.data import Rows
from llama_core.training.options import TrainingError, TrainingOptions

# Brown et al. 2020, arXiv:2005.14165, appendix B: the second moment forgets faster than AdamW's usual 0.999.
BETAS = (0.9, 0.95)


@no_type_check  # JAX puts stand-ins into pytrees
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that changes while training. Random keys are folded from the seed and `step`."""

    params: Params
    optimizer: Any
    step: Array


def learning_rate(options: TrainingOptions) -> Callable[[Any], Any]:
    """A linear warm-up, then a cosine decay (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
    warmup = min(options.warmup, options.steps - 1)
    # From the first update on it is above zero: update i of the warm-up runs at (i + 1) / warmup.
    return lambda step: (
        options.learning_rate
        * jnp.minimum(
            (step + 1) / max(1, warmup),
            options.final_rate
            + (1 - options.final_rate)
            * 0.5
            * (1 + jnp.cos(jnp.pi * jnp.clip((step - warmup) / max(1, options.steps - warmup), 0, 1))),
        )
    )


def optimizer(options: TrainingOptions) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) after clipping; only matrices decay, not norms and biases."""
    return optax.chain(
        optax.clip_by_global_norm(options.clip),
        optax.adamw(learning_rate(options), *BETAS, weight_decay=options.weight_decay, mask=matrices),
    )


def init_state(params: Params, options: TrainingOptions) -> TrainState:
    """The state before the first update. Raises `TrainingError` for weights that were rounded to small numbers."""
    if quantized_matrices(params):
        raise TrainingError(
            'the weights are rounded to 8 or 4 bits and cannot be trained; load the model with quantize="none"'
        )
    return TrainState(params, optimizer(options).init(params), jnp.zeros((), jnp.int32))


def summed_loss(
    params: Params, rows: Rows, config: LlamaConfig, options: TrainingOptions, key: PRNGKeyArray | None
) -> Float[Array, ""]:
    """Cross-entropy in nats, summed over the tokens to be learnt. Computed in `options.dtype`, logits in float32."""
    params = jax.tree.map(lambda leaf: leaf.astype(options.dtype), params)
    rate = 0.0 if key is None else options.dropout
    logits, _ = model_forward(params, rows.tokens[:, :-1], config, training=True, dropout_rate=rate, key=key)
    return jnp.sum(rows.weights * optax.softmax_cross_entropy_with_integer_labels(logits, rows.tokens[:, 1:]))


def mean_loss_and_gradient(
    params: Params, rows: Rows, config: LlamaConfig, options: TrainingOptions, key: PRNGKeyArray | None
) -> tuple[Float[Array, ""], Params]:
    """Mean loss per learnt token and its gradient, in `options.accumulate` parts that add up to the batch's."""
    evaluate = jax.value_and_grad(summed_loss)
    count = jnp.maximum(jnp.sum(rows.weights), 1.0)
    if options.accumulate == 1:
        total = evaluate(params, rows, config, options, key)
        return jax.tree.map(lambda leaf: leaf / count, total)
    parts = jax.tree.map(lambda leaf: leaf.reshape(options.accumulate, -1, leaf.shape[-1]), rows)
    keys = None if key is None else jax.random.split(key, options.accumulate)

    def add(total: Any, part: tuple[Rows, PRNGKeyArray | None]) -> tuple[Any, None]:
        part_rows, part_key = part
        return jax.tree.map(jnp.add, total, evaluate(params, part_rows, config, options, part_key)), None

    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add, zeros, (parts, keys))
    return jax.tree.map(lambda leaf: leaf / count, total)


def compile_update(config: LlamaConfig, options: TrainingOptions) -> Callable[[TrainState, Rows], tuple]:
    """`update(state, rows)` → the next state and the mean loss before the update. The old state is donated."""
    adamw = optimizer(options)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: TrainState, rows: Rows) -> tuple[TrainState, Array]:
        key = jax.random.fold_in(jax.random.key(options.seed), state.step) if options.dropout else None
        loss, gradient = mean_loss_and_gradient(state.params, rows, config, options, key)
        change, adam_state = adamw.update(gradient, state.optimizer, state.params)
        return TrainState(optax.apply_updates(state.params, change), adam_state, state.step + 1), loss

    return update


def compile_validation(config: LlamaConfig, options: TrainingOptions) -> Callable[[Params, Rows], Array]:
    """`measure(params, rows)` → summed loss of the rows, without dropout."""
    return jax.jit(lambda params, rows: summed_loss(params, rows, config, options, None))
