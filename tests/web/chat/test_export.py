"""Conversations as files, from this page and from other programs."""

import json
from dataclasses import replace

import pytest
from conversations import talk

from web.chat.codec import write_conversation
from web.chat.conversation import HistoryError
from web.chat.export import PAGE, from_json

ASKED = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "one"}]
MESSAGES = [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "two"}]}]
SHAREGPT = [{"from": "human", "value": "one"}, {"from": "gpt", "value": "two"}]


def test_an_exported_conversation_comes_back_whole_and_as_a_new_one():
    kept = replace(talk(), system="Be brief", stop="The end")
    for text in (write_conversation(kept), json.dumps(json.loads(write_conversation(kept)), indent=2)):
        [found] = from_json(text)
        assert found.nodes == kept.nodes and found.selected == kept.selected and found.id != kept.id
        assert (found.system, found.stop) == ("Be brief", "The end")


def test_a_file_of_several_conversations_gives_all_of_them():
    one = write_conversation(talk())
    for text in (f'{{"format": "{PAGE}", "chats": [{one}, {one}]}}', f"[{one}, {one}]", f"{one}\n{one}\n"):
        found = from_json(text)
        assert [chat.nodes for chat in found] == [talk().nodes] * 2 and found[0].id != found[1].id


@pytest.mark.parametrize(
    "value",
    [{"messages": MESSAGES}, MESSAGES, {"conversations": SHAREGPT, "system": "x"}, {"id": 7, "conversation": SHAREGPT}],
)
def test_conversations_of_other_programs_are_read(value):
    for rows, text in ((1, json.dumps(value)), (2, json.dumps([value, value])), (2, f"{json.dumps(value)}\n" * 2)):
        found = from_json(text)
        assert len(found) == rows
        for chat in found:
            assert [(node.role, node.text) for node in chat.nodes] == [("user", "one"), ("assistant", "two")]
            assert chat.path() == [0, 1]
    assert found[0].system == ("Be brief" if "role" in json.dumps(value) else "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "not json",
        None,
        '{"format": "other", "nodes": []}',
        '{"messages": []}',
        '{"messages": [{"role": "tool", "content": "x"}]}',
        '{"messages": [{"role": "user", "content": 3}]}',
        '[{"role": "system", "content": "alone"}]',
        "[" * 100_000,
    ],
)
def test_other_files_are_refused_in_words(text):
    with pytest.raises(HistoryError, match="not a conversation exported from this page, nor a list of messages"):
        from_json(text)
    with pytest.raises(HistoryError, match="not a conversation"):
        from_json(write_conversation(talk()).replace('"user"', '"system"'))
