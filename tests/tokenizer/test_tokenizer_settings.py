"""What the files beside a tokenizer say: added tokens, roles of tokens, begin token, leading space."""

import json
import shutil

import pytest
import tokenizers
import transformers
from checkpoints import SHARED, edit_json, write_tokenizer
from tokenizer_kinds import KINDS

from llama_core.runtime.files import ModelFileError
from llama_core.tokenizer import load_tokenizer
from llama_core.tokenizer.chat_template import Chat

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HELLO = [{"role": "user", "content": "Hello"}]


def row(content, **flags):
    return {"content": content, **dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False), **flags}


@pytest.fixture
def folder(tmp_path):
    write_tokenizer(tmp_path)
    return tmp_path


def size_of(folder):
    return load_tokenizer(folder / "tokenizer.json").vocab_size


@pytest.mark.parametrize("beside", ["added_tokens.json", "added_tokens_decoder"])
def test_markers_that_only_the_files_beside_name_are_special(folder, beside):
    first = size_of(folder)
    markers = {"<|im_start|>": first, "<|im_end|>": first + 1}
    edit_json(folder / "tokenizer_config.json", eos_token="<|im_end|>", chat_template=CHATML)
    if beside == "added_tokens.json":
        edit_json(folder / beside, **markers)
    else:
        rows = {str(token_id): row(marker, special=True) for marker, token_id in markers.items()}
        edit_json(folder / "tokenizer_config.json", added_tokens_decoder=rows)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    ids = Chat.from_folder(folder, tokenizer).prompt_ids(HELLO)
    assert [token_id for token_id in ids if token_id >= first] == [first, first + 1, first]
    assert tokenizer.eos_ids == (first + 1,) and tokenizer.decode([first]) == ""
    typed = tokenizer.encode("a <|im_end|> b")
    assert max(typed) < first and tokenizer.decode(typed) == "a <|im_end|> b"


@pytest.mark.parametrize("name", ["llama2/tokenizer.model", "llama2-hf/tokenizer.json"])
def test_markers_beside_real_vocabularies_are_special(tmp_path, name):
    if not (SHARED / "tokenizers" / name).is_file():
        pytest.skip(f"{name} is not here")
    shutil.copy(SHARED / "tokenizers" / name, tmp_path)
    edit_json(tmp_path / "added_tokens.json", **{"<|im_start|>": 32000, "<|im_end|>": 32001})
    edit_json(tmp_path / "tokenizer_config.json", eos_token="<|im_end|>", chat_template=CHATML)
    tokenizer = load_tokenizer(tmp_path / name.split("/")[1])
    ids = Chat.from_folder(tmp_path, tokenizer).prompt_ids(HELLO)
    assert [token_id for token_id in ids if token_id >= 32000] == [32000, 32001, 32000]
    assert tokenizer.eos_ids[0] == 32001


def test_added_tokens_beside_the_file_keep_their_flags(folder):
    first = size_of(folder)
    rows = {str(first): row("<|left|>", special=True, lstrip=True), str(first + 1): row("<think>", special=False)}
    edit_json(folder / "tokenizer_config.json", added_tokens_decoder=rows)
    ours = load_tokenizer(folder / "tokenizer.json")
    assert ours.encode_template("a  <|left|>") == [*ours.encode("a"), first]
    assert ours.decode([first, first + 1]) == "<think>"


def test_what_the_tokenizers_own_file_says_is_not_overruled(folder):
    before = load_tokenizer(folder / "tokenizer.json")
    taken = before.encode("the")[0]
    edit_json(folder / "added_tokens.json", **{"<|end|>": 299, "<|mine|>": taken})
    after = load_tokenizer(folder / "tokenizer.json")
    assert after.special_tokens == before.special_tokens and after.token_bytes == before.token_bytes


def test_a_token_with_a_role_is_special_where_the_vocabulary_has_it_as_a_piece(folder):
    values = json.loads((folder / "tokenizer.json").read_text())
    values["added_tokens"] = [row for row in values["added_tokens"] if row["content"] != "<|end|>"]
    (folder / "tokenizer.json").write_text(json.dumps(values))
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    assert tokenizer.eos_ids == (1,) and 1 not in tokenizer.encode("<|end|>")


def test_the_ends_that_both_files_name_are_ends(folder):
    edit_json(folder / "special_tokens_map.json", eos_token={"content": "<|role|>"}, bos_token="<|role|>")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (0, (1, 2))
    (folder / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (2, (2,))


@pytest.mark.parametrize(
    ("post_processor", "config", "begins"),
    [
        ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, {}, False),
        ("adds", {}, True),
        ("adds", {"add_bos_token": False}, False),
        ("adds", {"bos_token": None}, False),
        (None, {"add_bos_token": True}, True),
        (None, {"tokenizer_class": "GPT2Tokenizer"}, False),
        (None, {"tokenizer_class": "LlamaTokenizerFast"}, True),
    ],
)
def test_a_text_begins_with_the_begin_token_only_where_the_tokenizer_adds_one(folder, post_processor, config, begins):
    if post_processor == "adds":
        post_processor = {
            "type": "Sequence",
            "processors": [
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                json.loads(
                    tokenizers.processors.TemplateProcessing(
                        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
                    ).__getstate__()
                ),
            ],
        }
    edit_json(folder / "tokenizer.json", post_processor=post_processor)
    edit_json(folder / "tokenizer_config.json", chat_template=None, **config)
    ids = Chat.from_folder(folder, load_tokenizer(folder / "tokenizer.json")).prompt_ids(HELLO)
    assert (ids[0] == 0) == begins
    if post_processor and not config:
        theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        assert ids == theirs.encode("Hello")


def test_templates_see_the_unknown_and_the_padding_token(folder):
    edit_json(folder / "tokenizer_config.json", unk_token="<|role|>", pad_token={"content": "<|end|>"})
    chat = Chat(load_tokenizer(folder / "tokenizer.json"), "{{ unk_token }}{{ pad_token }}{{ mask_token }}")
    assert chat.prompt_ids(HELLO) == [2, 1]


def test_a_llama_class_has_its_usual_unknown_token(folder):
    edit_json(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    edit_json(folder / "added_tokens.json", **{"<unk>": size_of(folder)})
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    assert Chat(tokenizer, "{{ unk_token }}").prompt_ids(HELLO) == [tokenizer.special_tokens["<unk>"]]


@pytest.mark.parametrize("name", ["llama2/tokenizer.model", "llama2-hf/tokenizer.json"])
def test_a_llama_class_puts_no_space_first_where_the_settings_say_so(tmp_path, name):
    if not (SHARED / "tokenizers" / name).is_file():
        pytest.skip(f"{name} is not here")
    shutil.copy(SHARED / "tokenizers" / name, tmp_path)
    path = tmp_path / name.split("/")[1]
    spaced = load_tokenizer(path)
    edit_json(tmp_path / "tokenizer_config.json", tokenizer_class="LlamaTokenizer", add_prefix_space=False)
    plain = load_tokenizer(path)
    assert plain.encode(" Hello") == spaced.encode("Hello") and plain.encode("Hello") != spaced.encode("Hello")
    assert plain.decode(plain.encode(" Hello")) == " Hello" and plain.decode(plain.encode("Hello")) == "Hello"


@pytest.mark.parametrize("kind", ["Llama 2: prepend", "metaspace always", "metaspace first"])
@pytest.mark.parametrize("legacy", [None, False])
def test_a_llama_class_puts_a_space_before_the_first_text_alone(tmp_path, kind, legacy):
    (tmp_path / "tokenizer.json").write_text(json.dumps(KINDS[kind]()))
    edit_json(tmp_path / "tokenizer_config.json", tokenizer_class="LlamaTokenizer", unk_token="<|end|>", legacy=legacy)
    ours, theirs = load_tokenizer(tmp_path / "tokenizer.json"), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("<|begin|>the cat<|end|>that is<|end|> the", "the cat", " the cat", "  the<|end|>"):
        assert ours.encode_template(text) == theirs.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("name", ["llama2/tokenizer.model", "llama2-hf/tokenizer.json"])
def test_a_legacy_llama_class_puts_a_space_before_each_text(tmp_path, name):
    if not (SHARED / "tokenizers" / name).is_file():
        pytest.skip(f"{name} is not here")
    shutil.copy(SHARED / "tokenizers" / name, tmp_path)
    edit_json(tmp_path / "tokenizer_config.json", tokenizer_class="LlamaTokenizer", legacy=True)
    tokenizer = load_tokenizer(tmp_path / name.split("/")[1])
    assert tokenizer.encode_template("<s>user</s>user") == [1, 1404, 2, 1404]  # 1404: "▁user"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("added_tokens.json", {"<|x|>": "7"}, "added_tokens.json: '<|x|>' has the id '7'"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"x": row("<|x|>")}},
            "added_tokens_decoder has the row 'x'",
        ),
        ("added_tokens.json", {"<|x|>": 10**8}, "id 100000000, expected 0 to"),
        ("added_tokens.json", {"<|x|>": -1}, "id -1, expected 0 to"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"100000000": row("<|x|>")}}, "id 100000000"),
    ],
)
def test_damaged_settings_are_refused_by_name(folder, name, content, words):
    edit_json(folder / name, **content)
    with pytest.raises(ModelFileError) as refusal:
        load_tokenizer(folder / "tokenizer.json")
    assert words in str(refusal.value)
