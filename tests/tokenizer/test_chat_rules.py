"""Chats whose template has a rule of its own: no system role, a look at `<`, an own end of a turn; token counts."""

import dataclasses
import logging

import pytest
import transformers
from chat_templates import TEMPLATES, markers_of
from checkpoints import write_tokenizer

from llama_core.tokenizer import load_tokenizer
from llama_core.tokenizer.chat_template import Chat, ChatError, TemplateRefusal
from llama_core.tokenizer.message_counts import MessageCounts

SYSTEM, HI = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "the cat"}
REPLY, MORE = {"role": "assistant", "content": "sat on"}, {"role": "user", "content": "the mat"}
TURN = "{{ '<|role|>' + m.role + '\n' + m.content }}"
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURN
    + "{% endfor %}{% if add_generation_prompt %}{{ '<|role|>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    write_tokenizer(folder)
    return load_tokenizer(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    write_tokenizer(folder)
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


# A refused system role.


def test_a_refused_system_message_goes_into_the_next_question_and_is_said_once(tokenizer, caplog):
    chat = Chat(tokenizer, NO_SYSTEM)
    merged = {"role": "user", "content": "Be brief.\nthe cat"}
    with caplog.at_level(logging.WARNING):
        assert chat.prompt_ids([SYSTEM, HI, REPLY, MORE]) == chat.prompt_ids([merged, REPLY, MORE])
        assert chat.prompt_ids([SYSTEM, HI]) == chat.prompt_ids([merged])
    assert len(caplog.records) == 1 and not chat.accepts_system
    assert chat.prompt_ids([SYSTEM]) == chat.prompt_ids([{"role": "user", "content": "Be brief."}])
    assert chat.prompt_ids([{"role": "system", "content": ""}, HI]) == chat.prompt_ids([HI])


def test_other_refusals_are_quoted_with_and_without_a_system_message(tokenizer):
    picky = Chat(tokenizer, "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}x")
    with pytest.raises(TemplateRefusal, match="too long"):
        picky.prompt_ids([SYSTEM, HI, REPLY, MORE])
    with pytest.raises(ChatError, match="System role not supported"):
        Chat(tokenizer, NO_SYSTEM).training_ids([[SYSTEM, HI, REPLY]])
    never = Chat(tokenizer, "{{ raise_exception('never') }}")
    with pytest.raises(ChatError, match="never"):
        never.prompt_ids([SYSTEM, HI])


# Templates that look for characters with which special tokens begin.


LOOKING = [
    "{% if '<b>' in messages[0].content %}bold: {% endif %}{{ messages[0].content }}",
    "{{ messages[0].content | e }}",
    "{{ messages[0].content | replace('<b>', '*') }}<|end|>",
    "{{ messages[0].content.split('<')[-1] }}",
    "{{ messages[0].content.startswith('<') }}",
]


@pytest.mark.parametrize("template", LOOKING)
@pytest.mark.parametrize("typed", ["a <b> c", "<b>", "1 < 2", "plain", "<<b>"])
def test_a_template_that_looks_for_a_marker_s_first_character_sees_what_was_typed(tokenizer, theirs, template, typed):
    messages = [{"role": "user", "content": typed}]
    theirs.chat_template = template
    expected = theirs.apply_chat_template(messages, tokenize=False)
    [text] = Chat(tokenizer, template)._render([(messages, True)])
    assert tokenizer.unshield(text) == expected


@pytest.mark.parametrize("template", LOOKING)
@pytest.mark.parametrize(
    "typed",
    ["<b> <|end|>", "<<b>|end|>", "<|en<b>d|>", "<b><|role|>", "<|end<b>|>", "<b>\U0010f800|end|>", "<<|end|>b>"],
)
def test_no_template_makes_a_control_token_of_typed_text(tokenizer, template, typed):
    chat, special = Chat(tokenizer, template), set(tokenizer.special_tokens.values())
    found = [token_id for token_id in chat.prompt_ids([{"role": "user", "content": typed}]) if token_id in special]
    assert found == [token_id for token_id in chat.prompt_ids([HI]) if token_id in special]


def test_the_thoughts_of_replies_are_seen_beside_a_typed_bracket(tokenizer):
    with_thoughts = dataclasses.replace(tokenizer, special_tokens={**tokenizer.special_tokens, "</think>": 299})
    chat = Chat(with_thoughts, "{{ messages[1].content.split('</think>')[-1] }}")
    reply = {"role": "assistant", "content": "a < b</think>1 < 2 <|end|>"}
    assert tokenizer.decode(chat.prompt_ids([HI, reply, MORE])) == "1 < 2 <|end|>"


# The end of a turn.


def with_markers(tokenizer, markers):
    first = tokenizer.vocab_size
    special = {marker: first + i for i, marker in enumerate(markers)}
    return dataclasses.replace(
        tokenizer, special_tokens=special, token_bytes=[*tokenizer.token_bytes, *[b""] * len(special)], eos_ids=()
    )


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "every trick"])
def test_what_the_template_writes_after_a_reply_is_an_end(tokenizer, name):
    markers = markers_of(name)
    marked = with_markers(tokenizer, markers)
    ids = marked.special_tokens
    chat = Chat(dataclasses.replace(marked, bos_id=ids[markers[0]], eos_ids=(ids[markers[1]],)), TEMPLATES[name])
    assert chat.end_ids == (ids[markers[1]],)
    if "eos_token" not in TEMPLATES[name]:
        assert Chat(marked, TEMPLATES[name]).end_ids[0] == ids[markers[1]]


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        ("{% for m in messages %}{{ '<|role|>' + m.content }}{% endfor %}", [2]),  # the next turn begins
        ("{% for m in messages %}{{ m.content | trim | upper + '\n <|end|>\n' }}{% endfor %}", [1]),
        ("{% for m in messages %}{{ m.content }}{{ '<|end|>' if loop.last else '<|role|>' }}{% endfor %}", [1, 2]),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}<|end|>", [1]),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", []),
        ("<|end|>", []),
        ("{{ raise_exception('no') }}", []),
        ("{{ messages[9].content.x }}", []),
        (None, []),
    ],
)
def test_ends_are_found_by_what_follows_a_reply(tokenizer, template, ends):
    plain = dataclasses.replace(tokenizer, eos_ids=())
    assert Chat(plain, template).end_ids == tuple(ends)
    assert Chat(tokenizer, template).end_ids[:1] == tokenizer.eos_ids


# Counts of tokens.


CHAT = [SYSTEM, *[HI, {"role": "assistant", "content": "sat on the mat " * 9}] * 12, MORE]


@pytest.mark.parametrize("name", [*(name for name in TEMPLATES if name != "every trick"), None])
def test_counts_of_messages_add_up_to_the_prompt(tokenizer, name):
    marked = with_markers(tokenizer, markers_of(name)) if name else tokenizer
    chat = Chat(marked, TEMPLATES.get(name))
    for messages in (CHAT, CHAT[1:], CHAT[9:], [HI]):
        counted, real = sum(chat.token_counts(messages)), len(chat.prompt_ids(messages))
        assert real <= counted + len(messages) and counted <= real + 2 * len(messages) + 40
    assert chat.token_counts([]) == []


def test_thoughts_that_the_template_drops_are_not_counted(tokenizer):
    thinking = [HI, {"role": "assistant", "content": "<think>" + "hm " * 500 + "</think>Yes"}, MORE]
    marked = with_markers(tokenizer, markers_of("DeepSeek R1"))
    assert sum(Chat(marked, TEMPLATES["DeepSeek R1"]).token_counts(thinking)) < 100
    assert sum(Chat(marked, TEMPLATES["SmolLM2"]).token_counts(thinking)) > 500


def test_each_text_is_counted_once_and_the_memory_is_bounded(tokenizer):
    asked = []

    def encode(text, is_start):
        asked.append(text)
        return [0] * len(text)

    counts = MessageCounts(dataclasses.replace(tokenizer, encode_plain=encode), max_characters=100)
    texts = ["a" * 40, "b" * 40, "c" * 40]
    assert [counts.of(text) for text in [*texts[:2], texts[0], *texts, texts[0], "d" * 500, "e"]][-2:] == [500, 1]
    assert [text[0] for text in asked] == ["a", "b", "c", "a", "d", "e"]
    assert sum(map(len, counts._counts)) <= 100


def test_each_message_of_a_long_chat_is_encoded_once(tokenizer):
    asked = []

    def encode(text, is_start):
        asked.append(text)
        return tokenizer.encode_plain(text, is_start)

    chat = Chat(dataclasses.replace(tokenizer, encode_plain=encode), NO_SYSTEM)
    messages = [{"role": "user", "content": f"{i} the cat sat " * 20} for i in range(1000)]
    for count in (100, 500, 1000, 1000):
        assert chat.token_counts(messages[:count])[0] == chat.token_counts(messages[:1])[0]
    assert len(asked) < 1010 and sum(map(len, asked)) < 1.1 * sum(len(message["content"]) for message in messages)
