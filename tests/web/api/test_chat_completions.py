"""Chat and text completions through OpenAI's own client, against the engine and the model asked directly."""

import jax
import numpy as np
import pytest
from checkpoints import logits_after

from llama_core import SamplingParams

QUESTION = [{"role": "user", "content": "What is temperature?"}]
GREEDY = {"model": "guide", "temperature": 0}


def text_of(manager, ids, **params):
    """What the engine says itself."""
    served = manager.served
    request = served.engine.submit(ids, SamplingParams(**params))
    return served.model.tokenizer.decode([token.id for token in request]), request


def prompt_of(manager, messages=QUESTION):
    return manager.served.model.chat.prompt_ids(messages)


def test_a_chat_completion_is_what_the_engine_says(client, manager):
    expected, request = text_of(manager, prompt_of(manager), temperature=0.0, max_new_tokens=60)
    answer = client.chat.completions.create(messages=QUESTION, max_tokens=60, **GREEDY)
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", expected, "stop")
    assert (answer.object, answer.model) == ("chat.completion", "guide") and answer.id.startswith("chatcmpl-")
    assert answer.usage.prompt_tokens == len(prompt_of(manager))
    assert answer.usage.completion_tokens == len(request.token_ids)


def test_a_stream_has_the_same_words_and_tells_the_usage_last(client):
    whole = client.chat.completions.create(messages=QUESTION, max_tokens=60, **GREEDY)
    chunks = list(
        client.chat.completions.create(
            messages=QUESTION, max_tokens=60, stream=True, stream_options={"include_usage": True}, **GREEDY
        )
    )
    told = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert told[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in told) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in told] == [None] * (len(told) - 1) + ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0  # the question was asked before
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_have_their_own_seeds(client, stream):
    asked = {"model": "guide", "messages": QUESTION, "temperature": 1.5, "seed": 7, "max_tokens": 20}
    alone = client.chat.completions.create(**asked).choices[0].message.content
    if stream:
        texts = ["", "", ""]
        for chunk in client.chat.completions.create(n=3, stream=True, **asked):
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    else:
        answer = client.chat.completions.create(n=3, **asked)
        texts = [choice.message.content for choice in answer.choices]
    assert texts[0] == alone and len(set(texts)) > 1
    repeated = client.chat.completions.create(n=3, **asked)
    assert [choice.message.content for choice in repeated.choices] == texts


def test_a_reply_ends_at_a_stop_text_and_at_the_limit(client):
    whole = client.chat.completions.create(messages=QUESTION, max_tokens=60, **GREEDY).choices[0].message.content
    word = whole.split()[3]
    stopped = client.chat.completions.create(messages=QUESTION, stop=[word, "never"], **GREEDY).choices[0]
    assert stopped.message.content == whole[: whole.index(word)] and stopped.finish_reason == "stop"
    short = client.chat.completions.create(messages=QUESTION, max_completion_tokens=3, **GREEDY)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3


def test_logprobs_are_those_of_the_model(client, manager):
    model, ids = manager.served.model, prompt_of(manager)
    answer = client.chat.completions.create(
        messages=QUESTION, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3, model="guide"
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == 5
    assert b"".join(bytes(entry.bytes) for entry in content).decode() == answer.choices[0].message.content
    for entry in content:
        expected = np.asarray(jax.nn.log_softmax(logits_after(model, ids)))
        best = np.argsort(expected)[::-1][:3]
        assert entry.logprob == pytest.approx(float(expected[best[0]]), abs=1e-4)
        assert [row.logprob for row in entry.top_logprobs] == pytest.approx(expected[best].tolist(), abs=1e-4)
        ids = [*ids, int(best[0])]


def test_a_begun_reply_goes_on(client, manager):
    whole = client.chat.completions.create(messages=QUESTION, max_tokens=60, **GREEDY).choices[0].message.content
    begun = whole[: whole.index(" ", 12)]
    asked = [*QUESTION, {"role": "assistant", "content": begun}]
    answer = client.chat.completions.create(messages=asked, max_tokens=60, **GREEDY)
    tokenizer, ids = manager.served.model.tokenizer, prompt_of(manager)
    expected, _ = text_of(manager, [*ids, *tokenizer.encode(begun)], temperature=0.0, max_new_tokens=60)
    assert answer.choices[0].message.content == expected


def test_markers_in_typed_text_are_text(client, manager):
    asked = [{"role": "user", "content": "<|eot_id|> <|begin_of_text|>"}]
    answer = client.chat.completions.create(messages=asked, max_tokens=1, **GREEDY)
    ids = prompt_of(manager, asked)
    assert answer.usage.prompt_tokens == len(ids)
    tokenizer = manager.served.model.tokenizer
    plain = client.completions.create(model="guide", prompt="<|eot_id|>", max_tokens=1)
    assert plain.usage.prompt_tokens == len(tokenizer.encode("<|eot_id|>")) > 2


def test_message_parts_and_the_developers_role_are_understood(client):
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "temperature?"}]}
    ]
    same = [client.chat.completions.create(messages=asked, max_tokens=9, **GREEDY) for asked in (parts, QUESTION)]
    assert same[0].choices[0].message.content == same[1].choices[0].message.content
    told = [[{"role": role, "content": "Be brief."}, *QUESTION] for role in ("developer", "system")]
    counts = [client.chat.completions.create(messages=asked, max_tokens=1, **GREEDY).usage for asked in told]
    assert counts[0].prompt_tokens == counts[1].prompt_tokens


def test_text_completions_of_texts_and_ids(client, manager):
    tokenizer = manager.served.model.tokenizer
    ids = tokenizer.encode("The model")  # the guide begins texts with no token of its own
    expected, _ = text_of(manager, ids, temperature=0.0, max_new_tokens=8)
    answer = client.completions.create(
        model="guide", prompt=["The model", "The model"], max_tokens=8, temperature=0, echo=True, n=2
    )
    assert [choice.text for choice in answer.choices] == ["The model" + expected] * 4
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert client.completions.create(model="guide", prompt=ids, max_tokens=8, temperature=0).choices[0].text == expected
    chunks = client.completions.create(model="guide", prompt=ids, max_tokens=8, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected


def test_logprobs_of_a_text_completion(client):
    answer = client.completions.create(model="guide", prompt="The model", max_tokens=4, temperature=0, logprobs=2)
    told, text = answer.choices[0].logprobs, answer.choices[0].text
    assert "".join(told.tokens) == text and len(told.token_logprobs) == 4
    assert all(text[offset:].startswith(token) for offset, token in zip(told.text_offset, told.tokens, strict=True))
    assert all(
        max(row.values()) == pytest.approx(value)
        for row, value in zip(told.top_logprobs, told.token_logprobs, strict=True)
    )


def test_a_bias_decides(client, manager):
    token_id = manager.served.model.tokenizer.encode("llama")[0]
    answer = client.chat.completions.create(messages=QUESTION, max_tokens=2, logit_bias={str(token_id): 100}, **GREEDY)
    assert answer.choices[0].message.content == manager.served.model.tokenizer.decode([token_id] * 2)


def test_our_own_parameters_travel_in_the_body(client):
    sampled = {"model": "guide", "messages": QUESTION, "temperature": 2, "max_tokens": 12}
    greedy = client.chat.completions.create(messages=QUESTION, max_tokens=12, **GREEDY).choices[0].message.content
    cut = client.chat.completions.create(seed=5, extra_body={"top_k": 1}, **sampled).choices[0].message.content
    assert cut == greedy != client.chat.completions.create(seed=5, **sampled).choices[0].message.content
