"""Conversations as trees: nothing is lost by a retry, an edit or a branch, and nothing strange is read back."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from web.chat import codec
from web.chat.codec import StoredConversation, StoredNode, read_conversation, write_conversation
from web.chat.conversation import (
    MAX_CHARACTERS,
    MAX_NODES,
    ROOT,
    Alternative,
    Conversation,
    HistoryError,
    Node,
    Record,
    model_messages,
)

TOKEN = Record(7, " <b>", 0.5, 0.25, (Alternative(7, " <b>", 0.5, 0.25), Alternative(9, "x", 0.1, 0.0)))
FORCED = Record(9, "\u202e", forced=True)


def talk(*texts):
    """Questions and answers in turn, the first a question."""
    conversation = Conversation("abc")
    for number, text in enumerate(texts):
        role = "assistant" if number % 2 else "user"
        conversation = conversation.add(Node(role, number - 1 if number else ROOT, text))
    return conversation


def told(conversation):
    return [message for _, message in model_messages(conversation, conversation.path())]


def test_what_is_written_is_read_back():
    tree = talk("one", "two", "three").add(
        Node(
            "assistant",
            2,
            records=(TOKEN, FORCED),
            marks=((1, "Top-k 0 → 5"),),
            finish="length",
            problem="p",
            facts="f",
            model="m",
        )
    )
    tree = tree.add(Node("user", ROOT, "uno"))
    text = write_conversation(tree)
    assert read_conversation(text) == tree and "<" not in text


def test_versions_and_the_path_that_is_shown():
    tree = talk("one", "two", "three").add(Node("assistant", 0, "zwei"))
    assert tree.versions(1) == [1, 3] and tree.path() == [0, 3]
    back = Conversation("abc", tree.nodes, {**tree.selected, 0: 1})
    assert back.path() == [0, 1, 2]  # what followed the earlier version is there again
    assert tree.path(until=2) == [0, 1]


def test_only_what_is_new_is_written_for_a_page_that_has_the_rest():
    tree = replace(talk("one", "two", "three"), request=77)
    written = json.loads(write_conversation(tree, first=2))
    assert written["first"] == 2 and [node["words"] for node in written["nodes"]] == ["three"]
    assert written["request"] == 77 and read_conversation(write_conversation(tree)).request == 77


def test_the_model_is_told_alternating_messages():
    assert [row["content"] for row in told(talk("a", "b", "c"))] == ["a", "b", "c"]
    assert [row["content"] for row in told(talk("a", " ", "c"))] == ["c"]  # failed, and would fail again
    two = Conversation("abc").add(Node("user", ROOT, "a")).add(Node("user", 0, "b"))
    assert told(two) == [{"role": "user", "content": "a\n\nb"}]


def damaged(change):
    value = json.loads(write_conversation(talk("one", "two").add(Node("assistant", 0, records=(TOKEN,)))))
    change(value)
    return json.dumps(value)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(format="other"),
        lambda v: v.update(id="../x"),
        lambda v: v.update(nodes={}),
        lambda v: v["nodes"][0].update(role="system"),
        lambda v: v["nodes"][0].update(parent=0),
        lambda v: v["nodes"][1].update(parent=5),
        lambda v: v["nodes"][0].update(words=3),
        lambda v: v["nodes"][0].update(words="x" * (MAX_CHARACTERS + 1)),
        lambda v: v.update(selected={"-1": 9}),
        lambda v: v.update(selected={"0": 0}),
        lambda v: v["nodes"][2]["tokens"][0].__setitem__(0, -1),
        lambda v: v["nodes"][2]["tokens"][0].__setitem__(2, 1.5),
        lambda v: v["nodes"][2]["tokens"][0].__setitem__(4, [[1]]),
        lambda v: v["nodes"][2].update(finish="<b>"),
        lambda v: v["nodes"][2].update(marks=[["a", "b"]]),
        lambda v: v.update(nodes=[{"role": "user", "parent": -1}] * (MAX_NODES + 1)),
        lambda v: v.update(told_from=77),
    ],
)
def test_what_no_page_of_ours_would_send_is_refused(change):
    with pytest.raises(HistoryError):
        read_conversation(damaged(change))


@pytest.mark.parametrize("text", ["{", "[]", 3, "[" * 100_000, '"x"', "null"])
def test_what_is_no_conversation_at_all_is_refused(text):
    with pytest.raises(HistoryError):
        read_conversation(text)


def test_too_large_a_text_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(codec, "MAX_BYTES", 1000)
    text = '{"padding": "' + "x" * 1000 + '"'  # a parser would find that it is not JSON
    with pytest.raises(HistoryError, match="characters, at most 1000 are taken"):
        read_conversation(text)


def test_too_many_messages_are_named():
    with pytest.raises(HistoryError, match=f"more than {MAX_NODES} messages"):
        read_conversation(damaged(lambda v: v.update(nodes=[{"role": "user", "parent": -1}] * (MAX_NODES + 1))))


def test_a_conversation_is_read_however_its_json_is_spaced_and_ordered():
    tree = talk('{"role":"user"}', '],{"role":', "three").add(Node("assistant", 2, records=(TOKEN, FORCED)))
    value = json.loads(write_conversation(tree))
    behind = {"nodes": value["nodes"], **value, "title": {"a": [1, "]"]}}
    texts = [
        json.dumps(form, **how) for form in (value, behind) for how in ({}, {"indent": 1}, {"separators": (",", ":")})
    ]
    texts.append(json.dumps({**value, "nodes": [dict(reversed(node.items())) for node in value["nodes"]]}))
    for text in texts:
        assert read_conversation(text) == tree


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('},{"role"', '}{"role"'),
        lambda text: text.replace('},{"role"', '},,{"role"'),
        lambda text: text.replace('"nodes":[', '"nodes":[0,'),
        lambda text: text[:-1],
        lambda text: text[:-2],
        lambda text: text + "x",
        lambda text: text.replace('"nodes":[', '"nodes":[],"other":['),
    ],
)
def test_what_is_not_json_between_two_messages_is_refused(change):
    text = write_conversation(talk("one", "two"))
    assert change(text) != text
    with pytest.raises(HistoryError):
        read_conversation(change(text))


def test_no_call_of_a_parser_takes_more_than_a_message(monkeypatch):
    """Threads take turns between two calls only, so one call for everything would hold up the words of others."""
    sizes = []

    def watched(function, size):
        return lambda *arguments, **more: (sizes.append(size(*arguments)), function(*arguments, **more))[1]

    for form in (StoredConversation, StoredNode):
        monkeypatch.setattr(form, "model_validate_json", watched(form.model_validate_json, len))
    pattern = SimpleNamespace(search=watched(codec.SURROGATE.search, len))
    monkeypatch.setattr(codec, "SURROGATE", pattern)
    module = SimpleNamespace(**vars(json))
    module.dumps = watched(json.dumps, lambda value: len(json.dumps(value)))
    monkeypatch.setattr(codec, "json", module)
    text = write_conversation(tree := talk(*["some words " * 5] * 400))
    assert read_conversation(text) == tree
    assert len(sizes) > 1200 and max(sizes) < len(text) / 8


def test_half_of_a_surrogate_pair_is_replaced():
    text = write_conversation(talk("one", "two")).replace("one", "a\\ud83db \\ud83d\\ude00")
    assert read_conversation(text).nodes[0].words == "a\ufffdb \U0001f600"


def test_replies_from_before_models_had_ids_belong_to_the_model_whose_name_is_known():
    tree = talk("one").add(Node("assistant", 0, "two", model="guide")).add(Node("assistant", 0, "zwei", model="mine"))
    found = read_conversation(write_conversation(tree), {"guide": "guide-1a2b3c4d"})
    assert [node.model_id for node in found.nodes] == ["", "guide-1a2b3c4d", ""]
    assert [node.model_id for node in read_conversation(write_conversation(tree)).nodes] == ["", "", ""]
