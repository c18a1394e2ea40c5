"""Conversations as files."""

from dataclasses import replace

import pytest
from conversations import talk

from web.chat.codec import write_conversation
from web.chat.conversation import HistoryError
from web.chat.export import file_name, from_json, to_json, to_markdown


def test_an_exported_conversation_comes_back_whole_and_as_a_new_one():
    kept = replace(talk(), system="Be brief", stop="The end")
    found = from_json(to_json(kept))
    assert found.nodes == kept.nodes and found.selected == kept.selected and found.id != kept.id
    assert (found.system, found.stop) == ("Be brief", "The end")


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", None, '{"format": "other", "nodes": []}'])
def test_other_files_are_refused_in_words(text):
    with pytest.raises(HistoryError, match="not a conversation exported from this page"):
        from_json(text)
    with pytest.raises(HistoryError, match="not a conversation"):
        from_json(write_conversation(talk()).replace('"user"', '"system"'))


def test_markdown_has_the_path_that_is_shown():
    text = to_markdown(talk().add(talk().nodes[2].__class__("user", 1, "instead")))
    assert text == "**You:**\n\none\n\n**fake:**\n\n…\n\n**You:**\n\ninstead\n"


def test_files_are_named_by_the_first_words():
    assert file_name(talk(), "md") == "one.md"
    assert file_name(talk().put(0, talk().nodes[0].__class__("user", words="../Äh, Once upon!")), "json") == (
        "h-once-upon.json"
    )
