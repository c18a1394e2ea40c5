"""From a conversation to the prompt of one of its replies, and which turns are left out when the context is full."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.checkpoint import Model
from llama_core.engine.prefix_cache import CacheScope, common_prefix
from llama_core.tokenizer.chat_template import Chat, ChatError
from web.chat.conversation import Conversation, model_messages, text_parts
from web.strings import TEXT

Message = dict[str, str]  # as the chat template takes it


@dataclass(frozen=True)
class Prompt:
    """What is prefilled: `ids`, of which the first `prompt_tokens` are the conversation and the others the begun reply.
    `context_start` is the first message in it, None if all are. `cache_scope`: up to the first question everybody may
    find it in the prefix cache, the rest is this conversation's."""

    ids: list[int]
    prompt_tokens: int
    cache_scope: CacheScope
    context_start: int | None = None


def prompt_for(
    conversation: Conversation, number: int, upto: int, model: Model, context: int, max_new_tokens: int
) -> Prompt:
    """The prompt for token `upto` of the reply `number`. The reply keeps room in the context: a quarter of it, or
    `max_new_tokens`. The oldest turns are left out until the rest fits; the last question always stays.

    Every message is counted once and remembered, so the time is linear in what is new since the last prompt; it may
    still be seconds for a first long chat: call it in a thread. Raises `ChatError` as the chat template does.
    """
    parts_of = model_messages if model.chat.has_template else text_parts
    messages = parts_of(conversation, conversation.path(until=number))
    if not messages:
        raise ChatError(TEXT["nothing_to_answer"])
    begun = [record.id for record in conversation.nodes[number].records[:upto]]
    system = [{"role": "system", "content": conversation.system}] if conversation.system.strip() else []
    room = min(context - min(max_new_tokens, context // 4), context - len(begun) - 1)
    counts = model.chat.token_counts([*system, *(message for _, message in messages)])
    fixed, counts = sum(counts[: len(system)]), counts[len(system) :]
    kept = next((i for i, (node, _) in enumerate(messages) if node == conversation.context_start), 0)
    start = _first_message(counts, room - fixed, kept)
    ids = _prompt_ids(model.chat, system, messages[start:])
    while len(ids) > room and start + 2 < len(messages):  # the counts are estimates
        start += 2
        ids = _prompt_ids(model.chat, system, messages[start:])
    # The id is a secret of the browser that holds the conversation, so it tells people apart, also after a reload.
    scope = CacheScope(conversation.id, _shared_length(ids, system, model.chat))
    return Prompt([*ids, *begun], len(ids), scope, messages[start][0] if start else None)


def _prompt_ids(chat: Chat, system: Sequence[Message], messages: Sequence[tuple[int, Message]]) -> list[int]:
    told = [message for _, message in messages]
    if not chat.has_template:  # one text
        told = [{"role": "user", "content": "".join(message["content"] for message in told)}]
    return chat.prompt_ids([*system, *told])


def _shared_length(ids: list[int], system: Sequence[Message], chat: Chat) -> int:
    """How many tokens a prompt begins with whatever is asked: those that two other questions have in common."""
    first, second = (chat.prompt_ids([*system, {"role": "user", "content": text}]) for text in ("a", "b"))
    return common_prefix(ids, first[: common_prefix(first, second)])


def _first_message(counts: list[int], room: int, kept: int) -> int:
    """The first of the messages, of so many tokens each, to be told to the model: all if they fit, else those from
    `kept` on as last time, else as many of the last ones as fit into half of the room.

    Half, so that the next turns begin with the same tokens and the prefix cache has them: one turn less at a time would
    mean a prefill of everything at every turn. Questions and answers are left out in pairs.
    """
    for start in (0, kept):
        if sum(counts[start:]) <= room:
            return start
    start = kept
    while start + 2 < len(counts) and sum(counts[start:]) > room // 2:
        start += 2
    return start
