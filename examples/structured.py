"""Replies that a program can rely on, from a model that knows nothing of it: `python -m examples.structured`."""

import json
from pathlib import Path

from llama_core import Engine, SamplingParams, load_checkpoint

GUIDE = Path(__file__).parents[1] / "weights" / "guide"
SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["sampling", "attention", "the page"]},
        "summary": {"type": "string", "maxLength": 60},
        "difficulty": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["topic", "summary", "difficulty"],
    "additionalProperties": False,
}


def main() -> None:
    """Ask for an object, then for one of three words."""
    model = load_checkpoint(str(GUIDE))
    with Engine(model, slots=2, max_seq_len=512) as engine:  # compiles its programs: some seconds
        prompt_ids = model.chat.prompt_ids([{"role": "user", "content": "What is temperature?"}])
        params = SamplingParams(temperature=0.7, seed=1, max_new_tokens=200)
        described = engine.submit(prompt_ids, params, grammar=model.grammars.json_schema(SCHEMA))
        chosen = engine.submit(prompt_ids, params, grammar=model.grammars.choice(["yes", "no", "maybe"]))
        text = model.tokenizer.decode([token.id for token in described])
        print(described.finish_reason, json.loads(text) if described.finish_reason == "stop" else text)
        print(chosen.finish_reason, model.tokenizer.decode([token.id for token in chosen]))


if __name__ == "__main__":
    main()
