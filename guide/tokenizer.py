"""A byte-level BPE vocabulary from texts, in the two files that Llamas come with."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers

from llama_core.tokenizer import load_tokenizer
from llama_core.tokenizer.tiktoken_ranks import LLAMA3_PATTERN

# The chat format of Llama 3 without its blank lines, which would cost a model this small a tenth of its reading. Only
# the last three messages are read: training shows it no longer conversations.
TEMPLATE = """{%- set system = messages | selectattr('role', 'equalto', 'system') | list -%}
{%- set talk = messages | rejectattr('role', 'equalto', 'system') | list -%}
{%- if add_generation_prompt -%}{%- set talk = talk[-3:] -%}{%- endif -%}
{{- bos_token -}}
{%- for message in system + talk -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>' + message['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>' -}}{%- endif -%}
"""


def write_tokenizer(folder: Path, texts: Iterable[str], ranks: int) -> None:
    """Train `ranks` tokens on the texts; write `tokenizer.model`, `tokenizer.json` and what transformers wants beside.

    As in Llama 3, 256 special tokens follow the ranks.
    """
    library, hub, meta = _trained(texts, ranks), folder / "tokenizer.json", folder / "tokenizer.model"
    library.save(str(hub))
    spelt = load_tokenizer(hub).token_bytes
    meta.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(spelt)))
    # Only the reader of that file knows what its special tokens are called.
    special = load_tokenizer(meta).special_tokens
    library.add_special_tokens(sorted(special, key=special.get))
    library.save(str(hub))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|begin_of_text|>",
                "eos_token": "<|eot_id|>",
                "clean_up_tokenization_spaces": False,
            },
            indent=2,
        )
        + "\n"
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def _trained(texts: Iterable[str], ranks: int) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(LLAMA3_PATTERN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=ranks, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    library.train_from_iterator(texts, trainer)
    return library
