"""The training loop: batches of rows, updates, a line of progress every few updates, a checkpoint every so many."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from llama_core.checkpoint import hub
from llama_core.checkpoint.load import load_checkpoint, load_shape
from llama_core.checkpoint.random_model import is_random_name
from llama_core.checkpoint.save import find_outdated, save_checkpoint
from llama_core.model.config import LlamaConfig
from llama_core.model.params import Params, init_model_params
from llama_core.runtime.files import read_bytes
from llama_core.runtime.host_memory import keep_freed_memory
from llama_core.tokenizer.chat_template import Chat
from llama_core.training.curve import loss_curve
from llama_core.training.data import Batches, Document, Rows, fingerprint, pack, read_documents
from llama_core.training.options import TrainingError, TrainingOptions
from llama_core.training.state import load_notes, load_state, save_state, state_file
from llama_core.training.update import TrainState, compile_update, compile_validation, init_state

# Files of the start that are copied beside the weights of the new model.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
)
CURVE_FILE = "loss.svg"
PROGRESS_EVERY = 10
PATHS = ("data", "validation", "out")
# Options that may differ when a run is resumed. With other steps the learning rate follows the new schedule from there.
FREE = ("steps", "save_every", "save_dtype")


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run begins: a model's shape, the files to copy beside it, and a function that makes its weights."""

    config: LlamaConfig
    chat: Chat
    companions: dict[str, bytes]
    make_params: Callable[[], Params]


@dataclasses.dataclass
class Journal:
    """What is saved with the state: the options of the run, and its losses so far as (step, loss)."""

    run: dict
    training: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    validation: list[tuple[int, float]] = dataclasses.field(default_factory=list)


def train(options: TrainingOptions, report: Callable[[str], None] = print) -> Journal:
    """Train to the end, or resume the run in `options.out` if there is one. Returns the losses of the run.

    Raises `TrainingError`, and what `load_checkpoint` raises.
    """
    keep_freed_memory()
    start, out = find_start(options), Path(options.out)
    find_outdated(out, {*start.companions, CURVE_FILE})  # refuses a folder of something else now, not after hours
    documents = read_documents(Path(options.data), start.chat)
    held_out = read_documents(Path(options.validation), start.chat) if options.validation else []
    batches = Batches(documents, options.sequence_length, options.batch_size, options.seed)
    state, journal = _begin_or_resume(start, options, documents, out)
    report(
        f"{sum(leaf.size for leaf in jax.tree.leaves(state.params)):,} parameters, {len(documents):,} documents, "
        f"{sum(len(document.ids) for document in documents):,} tokens, {batches.steps_per_epoch:,} updates an epoch"
    )
    update, validate = compile_update(start.config, options), _validation(start.config, options, held_out)
    progress = ProgressLine(int(state.step), options, report)
    while int(state.step) < options.steps:
        state = _until_checkpoint(state, update, batches, options, journal, progress)
        if held_out:
            journal.validation.append((int(state.step), validate(state.params)))
            report(f"step {int(state.step)}: validation loss {journal.validation[-1][1]:.4f}")
        _save_model(out, start, state, options, journal)
        save_state(state_file(out), state, dataclasses.asdict(journal))
    report(f"{out} holds the model; the loss is drawn in {out / CURVE_FILE}")
    return journal


def load_journal(out: Path) -> Journal | None:
    """The journal of the run whose model is `out`; None if there is none. Raises `TrainingError`."""
    notes = load_notes(state_file(out))
    if notes is None:
        return None
    curves = {name: [(step, loss) for step, loss in notes[name]] for name in ("training", "validation")}
    return Journal(notes["run"], **curves)


def find_start(options: TrainingOptions) -> Start:
    """The model, or the shape of one, that `options` names."""
    if options.config:
        folder = Path(options.config)
        config, tokenizer, chat = load_shape(folder)
        return Start(config, chat, _companions(folder), lambda: init_model_params(jax.random.key(options.seed), config))
    if is_random_name(options.model):
        raise TrainingError(f"--model {options.model} is random and has no tokenizer files; use --config FOLDER")
    located = hub.resolve(options.model)
    if located.gguf:
        raise TrainingError(
            f"--model {options.model} is a GGUF file, whose tokenizer cannot be saved beside trained weights; choose "
            "the repository of this model in the Hub's format"
        )
    model = load_checkpoint(options.model)
    return Start(model.config, model.chat, _companions(located.folder), lambda: model.params)


def _companions(folder: Path) -> dict[str, bytes]:
    return {name: read_bytes(folder / name) for name in COMPANIONS if (folder / name).is_file()}


def _begin_or_resume(
    start: Start, options: TrainingOptions, documents: list[Document], out: Path
) -> tuple[TrainState, Journal]:
    run = {name: value for name, value in dataclasses.asdict(options).items() if name not in PATHS}
    run["data"] = fingerprint(documents)
    saved = state_file(out)
    journal = load_journal(out)
    if journal is None:
        return init_state(start.make_params(), options), Journal(run)
    different = [name for name in run if name not in FREE and journal.run.get(name) != run[name]]
    if different:
        name = different[0]
        raise TrainingError(
            f"{saved} holds a run with {name} {journal.run.get(name)}, not {run[name]}; use another --out"
        )
    like = jax.eval_shape(lambda: init_state(start.make_params(), options))
    return load_state(saved, like), dataclasses.replace(journal, run=run)


def _until_checkpoint(
    state: TrainState,
    update: Callable,
    batches: Batches,
    options: TrainingOptions,
    journal: Journal,
    progress: "ProgressLine",
) -> TrainState:
    first = int(state.step)
    last = min(options.steps, (first // options.save_every + 1) * options.save_every)
    losses = []
    for step in range(first, last):
        state, loss = update(state, batches[step])
        losses.append(loss)
        if (step + 1) % PROGRESS_EVERY == 0 or step + 1 == last:
            mean = float(np.mean(jax.device_get(losses)))
            _check_finite(mean, step + 1)
            journal.training.append((step + 1, mean))
            progress.show(step + 1, mean)
            losses = []
    return state


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss} at step {step}; start again with a lower --learning-rate")


def _validation(config: LlamaConfig, options: TrainingOptions, documents: list[Document]) -> Callable[[Params], float]:
    measure = compile_validation(config, options)
    rows = pack(documents, options.sequence_length)
    size = options.batch_size // options.accumulate
    empty = -len(rows.tokens) % size
    padded = Rows(*(np.pad(part, ((0, empty), (0, 0))) for part in rows))
    parts = [Rows(*(part[i : i + size] for part in padded)) for i in range(0, len(padded.tokens), size)]
    return lambda params: sum(float(measure(params, part)) for part in parts) / float(rows.weights.sum())


def _save_model(out: Path, start: Start, state: TrainState, options: TrainingOptions, journal: Journal) -> None:
    curves = {"training": journal.training, "validation": journal.validation}
    drawn = loss_curve({name: curve for name, curve in curves.items() if curve})
    save_checkpoint(out, start.config, state.params, {**start.companions, CURVE_FILE: drawn}, options.save_dtype)


class ProgressLine:
    """The line of progress: step, loss, tokens per second, time left."""

    def __init__(self, step: int, options: TrainingOptions, report: Callable[[str], None]):
        self._options, self._report = options, report
        self._since, self._compiling = (step, time.perf_counter()), True

    def show(self, step: int, loss: float) -> None:
        """Report the state after `step` updates."""
        first, began = self._since
        now = time.perf_counter()
        steps_per_second = (step - first) / (now - began)
        left = round((self._options.steps - step) / steps_per_second)
        tokens = self._options.batch_size * self._options.sequence_length
        self._report(
            f"step {step}/{self._options.steps}  loss {loss:.4f}  {steps_per_second * tokens:,.0f} tokens/s  "
            f"{left // 60} min {left % 60} s left"
        )
        if self._compiling:  # the first updates waited for the compiler and do not count
            self._since, self._compiling = (step, now), False
