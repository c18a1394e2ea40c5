"""The sentence of the page's first screen: an answer of the guide as it was written, token by token with the
alternatives. `python -m guide.sample` writes it beside the model; to be run when the guide was trained again."""

import json
from pathlib import Path

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.checkpoint import Model
from web.chat.actions import ALTERNATIVES
from web.chat.codec import write_conversation
from web.chat.conversation import Conversation, Node, Record
from web.chat.stream import Labels, record_of

GUIDE = Path(__file__).parents[1] / "weights" / "guide"
QUESTION, SEED = "Tell me a story about a llama", 2  # of the first few seeds the one that tells of a llama


def main() -> None:
    """Writes `sample.json`: the chat, and which token of the reply is shown open."""
    model = load_checkpoint(str(GUIDE))
    records = first_sentence(model)
    open_at = min(range(1, len(records)), key=lambda index: abs((records[index].share or 0) - 0.3))
    reply = Node("assistant", 0, records=records, finish="length", model=model.name, model_id=model.id)
    chat = json.loads(write_conversation(Conversation().add(Node("user", -1, QUESTION)).add(reply)))
    text = json.dumps({"open": open_at, "chat": chat}, ensure_ascii=False)
    (GUIDE / "sample.json").write_text(text + "\n", encoding="utf-8")


def first_sentence(model: Model) -> tuple[Record, ...]:
    """Of a story, up to its first full stop."""
    prompt_ids = model.chat.prompt_ids([{"role": "user", "content": QUESTION}])
    labels, text = Labels(model.tokenizer), model.tokenizer.stream()
    records: list[Record] = []
    with Engine(model, slots=1, max_seq_len=256) as engine:
        params = SamplingParams(temperature=0.5, seed=SEED, max_new_tokens=60, logprobs=ALTERNATIVES)
        for token in engine.submit(prompt_ids, params):
            records.append(record_of(token, text.push(token.id), labels))
            if records[-1].text.endswith("."):
                break
    return tuple(records)


if __name__ == "__main__":
    main()
