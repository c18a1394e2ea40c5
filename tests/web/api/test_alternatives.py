"""What only this API tells: what could have come, from a rewound or forced reply, and sliders for a reply that is being
written."""

import json
import threading

import httpx
import numpy as np
import pytest
from checkpoints import logits_after

from llama_core import SamplingParams
from web.settings import GUIDE, Settings

QUESTION = [{"role": "user", "content": "What is temperature?"}]
CUT = -9999.0


@pytest.fixture
def post(url):
    """Posts to the API: the JSON of the answer, which has this status."""

    def post_(path, body, status=200, method="POST"):
        answer = httpx.request(method, f"{url}/v1/{path}", json=body, timeout=60)
        assert answer.status_code == status, answer.text
        return answer.json()

    return post_


def prompt_of(manager):
    return manager.served.model.chat.prompt_ids(QUESTION)


def shares_after(model, ids):
    """The model's logarithms of shares for the token after `ids`, in double precision."""
    logits = np.asarray(logits_after(model, ids), np.float64)
    return logits - np.logaddexp.reduce(logits)


@pytest.mark.parametrize("begun", ["", "Temperature is"])
def test_alternatives_are_those_of_the_model_and_those_after_the_cuts(post, manager, begun):
    model = manager.served.model
    ids = model.tokenizer.encode(begun) if begun else []
    messages = [*QUESTION, {"role": "assistant", "content": begun}] if begun else QUESTION
    told = post(
        "tokens/alternatives", {"messages": messages, "top_logprobs": 5, "temperature": 0.5, "top_k": 3, "seed": 1}
    )
    assert told["reply_ids"] == ids and told["usage"]["prompt_tokens"] == len(prompt_of(manager))
    expected = shares_after(model, [*prompt_of(manager), *ids])
    best = np.argsort(expected)[::-1][:5]
    assert [row["id"] for row in told["alternatives"]] == best.tolist()
    assert [row["logprob"] for row in told["alternatives"]] == pytest.approx(expected[best].tolist(), abs=1e-4)
    kept = 2 * expected[best[:3]]  # temperature 0.5
    final = kept - np.logaddexp.reduce(kept)
    assert [row["final_logprob"] for row in told["alternatives"]] == pytest.approx([*final, CUT, CUT], abs=1e-4)
    assert told["token"]["id"] in best[:3]
    assert bytes(told["token"]["bytes"]) == model.tokenizer.bytes_of(told["token"]["id"])


def test_a_reply_is_rewound_forced_and_continued(post, manager):
    asked = {"messages": QUESTION, "temperature": 0}
    whole = post("chat/completions", asked | {"max_tokens": 6, "logprobs": True, "top_logprobs": 2})
    rows = whole["choices"][0]["logprobs"]["content"]
    forced = [*(row["id"] for row in rows[:3]), rows[3]["top_logprobs"][1]["id"]]  # the second best as the fourth

    told = post("tokens/alternatives", asked | {"reply_ids": forced})
    expected = shares_after(manager.served.model, [*prompt_of(manager), *forced])
    assert told["token"]["id"] == int(expected.argmax()) and told["token"]["final_logprob"] == 0
    by_ids = post("tokens/alternatives", {"prompt": prompt_of(manager), "reply_ids": forced, "temperature": 0})
    assert by_ids["alternatives"] == told["alternatives"]

    request = manager.served.engine.submit(
        prompt_of(manager), SamplingParams(temperature=0.0, max_new_tokens=8), reply_ids=forced
    )
    said = manager.served.model.tokenizer.decode([token.id for token in request])
    went_on = post("chat/completions", asked | {"reply_ids": forced, "max_tokens": 8})
    assert went_on["choices"][0]["message"]["content"] == said


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({}, None),
        ({"messages": QUESTION, "prompt": "x"}, None),
        ({"messages": []}, "messages"),
        ({"messages": QUESTION, "top_logprobs": 0}, "top_logprobs"),
        ({"messages": QUESTION, "reply_ids": [10**9]}, None),
    ],
)
def test_alternatives_of_nothing_are_refused(post, change, param):
    error = post("tokens/alternatives", change, status=400)["error"]
    assert error["type"] == "invalid_request_error" and (param is None or error["param"] == param)


@pytest.fixture
def turns(manager, monkeypatch):
    """The engine takes a turn for each `release`."""
    scheduler, allowed = manager.served.engine._scheduler, threading.Semaphore(0)
    take_turn = scheduler.take_turn

    def take_allowed_turn():
        allowed.acquire()
        take_turn()

    monkeypatch.setattr(scheduler, "take_turn", take_allowed_turn)
    yield allowed
    monkeypatch.undo()
    allowed.release(10**6)


def test_a_running_reply_is_sampled_otherwise_from_now_on(url, post, turns):
    asked = {"messages": QUESTION, "temperature": 100, "seed": 1, "max_tokens": 200, "logprobs": True, "stream": True}
    rows = []
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=asked, timeout=60) as answer:
        lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
        reply_id = json.loads(next(lines))["id"]
        turns.release(6)  # some of the reply, and not all of it: each adds 16 tokens at most
        while not rows:
            rows += (json.loads(next(lines))["choices"][0]["logprobs"] or {"content": []})["content"]
        drawn = len(rows)
        path = f"replies/{reply_id}"
        assert post(path, {"temperature": 0.5}, method="PATCH")["sampling"]["temperature"] == 0.5
        told = post(path, {"top_k": 1}, method="PATCH")  # and the temperature stays as it is
        assert (told["sampling"]["temperature"], told["sampling"]["top_k"]) == (0.5, 1)
        assert post(path, {"temprature": 1}, 400, "PATCH")["error"]["param"] == "temprature"
        assert post(path, {"top_p": 3}, 400, "PATCH")["error"]["param"] == "top_p"
        turns.release(10**6)
        for line in lines:
            if line != "[DONE]":
                rows += (json.loads(line)["choices"][0]["logprobs"] or {"content": []})["content"]
    assert max(row["final_logprob"] for row in rows[:drawn]) < -1  # of 2 048 almost equal ones
    assert rows[-1]["final_logprob"] == 0 and len(rows) > drawn  # the only one
    assert post(path, {}, 404, "PATCH")["error"]["code"] == "reply_not_found"


def test_the_key_is_asked_for_here_too(serve_with):
    url = serve_with(Settings(model=GUIDE, api_keys="sesame"))
    assert httpx.patch(f"{url}/v1/replies/x", json={}).status_code == 401
    assert httpx.post(f"{url}/v1/tokens/alternatives", json={"messages": QUESTION}).status_code == 401
