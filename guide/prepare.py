"""Makes all that training needs: `python -m guide.prepare FOLDER` writes corpus, tokenizer and the model's shape."""

import hashlib
import json
import sys
from pathlib import Path

from guide.corpus import conversations
from guide.tokenizer import write_tokenizer
from llama_core.model.config import LlamaConfig

CONVERSATIONS, VALIDATION = 200_000, 1_000
TRAINING_SEED, VALIDATION_SEED = 1, 2
# 1792 tokens and 256 special ones.
RANKS = 1792
SHAPE = LlamaConfig(
    vocab_size=RANKS + 256,
    hidden_size=192,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    bos_token_id=RANKS,
    eos_token_id=(RANKS + 9,),
    dtype="bfloat16",
)
GENERATION = {"do_sample": True, "temperature": 0.5, "bos_token_id": RANKS, "eos_token_id": [RANKS + 9]}


def prepare(folder: Path, count: int = CONVERSATIONS) -> str:
    """Write `train.jsonl`, `validation.jsonl`, the tokenizer and `config.json`; the hash of the training corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(row) for row in conversations(count, TRAINING_SEED)]
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")
    held = conversations(min(count, VALIDATION), VALIDATION_SEED)
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    texts = (message["content"] for row in rows[:30_000] for message in json.loads(row)["messages"])
    write_tokenizer(folder, [*texts, "system user assistant"], RANKS)
    (folder / "config.json").write_text(SHAPE.to_json())
    (folder / "generation_config.json").write_text(json.dumps(GENERATION, indent=2) + "\n")
    return hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()


if __name__ == "__main__":
    print(f"corpus sha256 {prepare(Path(sys.argv[1]))}")
