"""The prompt of a reply: the oldest turns make room, the kept ones stay, and nothing is counted twice."""

import asyncio
import threading
from dataclasses import replace

import pytest
from chat_templates import TEMPLATES
from conversations import CONTROLS, talk
from fake_engine import FakeEngine, fake_model

from llama_core.tokenizer.chat_template import Chat, ChatError
from web.chat import actions
from web.chat.conversation import ROOT, Conversation, Node
from web.chat.prompt import prompt_for
from web.chat.replies import ReplyManager
from web.models.manager import Served

MODEL = fake_model()


def chat_of(turns, words=""):
    """Questions and answers, and a reply without a word yet."""
    conversation = Conversation("abc")
    for number in range(0, 2 * turns, 2):
        conversation = conversation.add(Node("user", number - 1, f"question {number}{words}"))
        answer = f"answer {number}{words}" if number < 2 * turns - 2 else ""
        conversation = conversation.add(Node("assistant", number, answer))
    return conversation


def prompt_text(prompt):
    return MODEL.tokenizer.decode(prompt.ids)


def test_the_oldest_turns_make_room_and_it_is_said_from_where_the_model_is_told():
    conversation = chat_of(3)
    whole = prompt_for(conversation, 5, 0, MODEL, 1000, 100)
    assert whole.context_start is None and prompt_text(whole).startswith("question 0")
    cut = prompt_for(chat_of(4), 7, 0, MODEL, 68, 4)  # 70 tokens do not fit into 64: down to half of that
    assert cut.context_start == 4 and prompt_text(cut) == "question 4\nanswer 4\nquestion 6"
    last = prompt_for(conversation, 5, 0, MODEL, 12, 5)
    assert prompt_text(last) == "question 4"  # the question itself is never left out


def test_a_full_context_is_cut_to_half_and_then_kept_until_it_is_full_again():
    conversation, starts, before = Conversation("abc"), [], []
    for turn in range(60):
        parent = len(conversation.nodes) - 1
        conversation = conversation.add(Node("user", parent, f"question {turn}"))
        number = len(conversation.nodes)
        conversation = conversation.add(Node("assistant", number - 1))
        prompt = prompt_for(conversation, number, 0, MODEL, 400, 40)
        assert len(prompt.ids) <= 360
        if starts and prompt.context_start == starts[-1]:  # the next turn prefills its new tokens only
            assert prompt.ids[: len(before)] == before
        elif starts:
            assert len(prompt.ids) <= 180
        starts.append(prompt.context_start)
        before = prompt.ids
        answered = replace(conversation.nodes[number], words=f"answer {turn}")
        conversation = replace(conversation.put(number, answered), context_start=prompt.context_start)
    assert starts[0] is None and 3 < len(set(starts)) < 60 / 5


def test_everything_is_told_again_where_it_fits():
    conversation = replace(chat_of(3), context_start=2)
    assert prompt_for(conversation, 5, 0, MODEL, 1000, 100).context_start is None


def test_making_a_prompt_reads_each_message_once():
    read = []

    def encode(text, is_start):
        read.append(len(text))
        return MODEL.tokenizer.encode_plain(text, is_start)

    tokenizer = replace(MODEL.tokenizer, encode_plain=encode)
    model = replace_chat(tokenizer)
    conversation = chat_of(400, " and so on" * 20)
    first = prompt_for(conversation, 799, 0, model, 4096, 256)
    characters = sum(len(node.text) for node in conversation.nodes)
    assert sum(read) < 2 * characters  # once to count it, and what is told once more
    read.clear()
    again = prompt_for(replace(conversation, context_start=first.context_start), 799, 0, model, 4096, 256)
    assert again.ids == first.ids and sum(read) < 5000


def replace_chat(tokenizer):
    model = fake_model()
    model.tokenizer, model.chat = tokenizer, Chat(tokenizer)
    return model


def test_prompts_are_made_beside_the_event_loop():
    model, threads = fake_model(), []

    class Watched(Chat):
        def prompt_ids(self, messages):
            threads.append(threading.get_ident())
            return super().prompt_ids(messages)

    model.chat = Watched(model.tokenizer)
    served = Served(FakeEngine(), model, False)

    async def answer():
        pending = actions.ask("three", talk(), model, CONTROLS)
        return [update async for update in ReplyManager().respond("tab", pending, CONTROLS, served)]

    assert "Length limit" in asyncio.run(answer())[-1].status
    assert threads and threading.get_ident() not in threads


def test_stop_while_the_prompt_is_made_stops_the_reply():
    model, replies = fake_model(), ReplyManager()

    class Slow(Chat):
        def prompt_ids(self, messages):
            assert replies.is_busy("tab")
            replies.stop("tab")
            return super().prompt_ids(messages)

    model.chat = Slow(model.tokenizer)
    engine = FakeEngine(pace=50)
    served = Served(engine, model, False)

    async def answer():
        pending = actions.ask("three", talk(), model, CONTROLS)
        return [update async for update in replies.respond("tab", pending, CONTROLS, served)]

    updates = asyncio.run(answer())
    assert engine.generations[0].cancelled.is_set()
    assert "Stopped" in updates[-1].status and not replies.is_busy("tab")


def test_leaving_while_the_prompt_is_made_asks_nothing():
    model, replies, engine = fake_model(), ReplyManager(), FakeEngine()

    class Slow(Chat):
        def prompt_ids(self, messages):
            replies.abandon("tab")
            return super().prompt_ids(messages)

    model.chat = Slow(model.tokenizer)

    async def answer():
        pending = actions.ask("three", talk(), model, CONTROLS)
        served = Served(engine, model, False)
        return [update async for update in replies.respond("tab", pending, CONTROLS, served)]

    assert asyncio.run(answer()) == [] and engine.generations == []


def test_a_model_that_was_not_trained_to_chat_is_told_one_text_without_gaps():
    base = fake_model()
    base.chat = Chat(base.tokenizer)
    parts = [("user", "Once"), ("assistant", " upon"), ("user", " a"), ("assistant", ""), ("user", " time")]
    conversation = Conversation("abc")
    for role, words in [*parts, ("assistant", "")]:
        conversation = conversation.add(Node(role, len(conversation.nodes) - 1, words))
    prompt = prompt_for(conversation, 5, 0, base, 1000, 100)
    assert prompt_text(prompt) == "Once upon a time"
    told = replace(conversation, system="A story.")
    assert prompt_text(prompt_for(told, 5, 0, base, 1000, 100)) == "A story.\nOnce upon a time"


def test_a_reply_to_nothing_is_refused():
    conversation = Conversation("abc").add(Node("assistant", ROOT, "x"))
    with pytest.raises(ChatError, match="no question"):
        prompt_for(conversation, 0, 0, MODEL, 100, 10)


@pytest.mark.parametrize("template", [None, *TEMPLATES])
def test_other_people_may_find_the_prompt_up_to_the_first_question(template):
    """So that what they are told about the prefix cache confirms no guess of anybody's words."""
    model = fake_model()
    model.chat = Chat(model.tokenizer, template and TEMPLATES[template])
    for question in ("a question", "be brief", "?"):
        conversation = Conversation("abc", system="Speak like Zorro.").add(Node("user", ROOT, question))
        conversation = conversation.add(Node("assistant", 0))
        prompt = prompt_for(conversation, 1, 0, model, 4000, 100)
        scope = prompt.cache_scope
        shared = model.tokenizer.decode(prompt.ids[: scope.shared_length])
        assert scope.salt == "abc" and "Zorro" in shared
        assert shared == model.tokenizer.decode(prompt.ids).partition(question)[0]


def test_two_people_with_the_same_question_share_the_system_prompt_only():
    model, engine, told = fake_model(), FakeEngine(), replace(CONTROLS, system="Speak like Zorro.")
    served = Served(engine, model)

    async def answer(conversation):
        pending = actions.ask("Is it Bob?", conversation, model, told)
        return [update async for update in ReplyManager().respond("tab", pending, told, served)]

    def cached(browser_keeps):
        last = asyncio.run(answer(Conversation(browser_keeps)))[-1]
        request = engine.generations[-1]
        assert f", {request.cached_tokens} reused" in last.stream or request.cached_tokens == 0
        return request.cached_tokens, request.prompt_tokens

    assert cached("first")[0] == 0
    assert cached("second")[0] == len("Speak like Zorro.\n")
    found, prompt_tokens = cached("first")
    assert found == prompt_tokens
