"""What the clients of a crowd do: ask and read, slowly or not; leave; send what is no request."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.crowd.http import Connection

WORDS = "the sea is wide and a small boat goes far where no light is seen but of stars"
PATHS = {True: "/v1/chat/completions", False: "/v1/completions"}
SECONDS = 120  # after which a reply counts as lost


@dataclass
class Question:
    """What is asked, and the replies to it when nobody else asks, by their index."""

    is_chat: bool
    asked: dict[str, Any]
    expected: list[str] = field(default_factory=list)

    def body(self, **more: Any) -> bytes:
        """The request."""
        return json.dumps(self.asked | more).encode()


def questions(count: int, seed: int) -> list[Question]:
    """Greedy and seeded ones, chats and completions, short and long."""
    chance, found = random.Random(seed), []
    for number in range(count):
        words = " ".join(chance.choices(WORDS.split(), k=chance.choice((3, 20, 150))))
        asked: dict[str, Any] = {"max_tokens": chance.choice((4, 20, 60)), "n": chance.choice((1, 1, 1, 3))}
        asked |= {"temperature": 0} if number % 2 else {"temperature": 1, "seed": number, "top_p": 0.9}
        is_chat = bool(chance.randrange(2))
        asked |= {"messages": [{"role": "user", "content": words}]} if is_chat else {"prompt": words}
        found.append(Question(is_chat, asked))
    return found


@dataclass
class Crowd:
    """What the clients have in common, and how often what happened. `wrong` is what must not be: at most ten."""

    url: str
    questions: list[Question]
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def blame(self, words: str) -> None:
        """Something is not as it must be."""
        self.counts["wrong"] += 1
        self.wrong = [*self.wrong, words][:10]

    async def act(self, chance: random.Random) -> None:
        """One thing that a client does."""
        name, act = chance.choice(ACTS)
        try:
            async with asyncio.timeout(SECONDS), Connection(self.url) as connection:
                await act(self, connection, chance)
        except (OSError, EOFError, TimeoutError) as problem:
            if name in READERS:
                self.blame(f"{name}: {type(problem).__name__} {problem}")
        self.counts[name] += 1

    def check(self, question: Question, texts: list[str]) -> None:
        """Each reply is what it is alone."""
        self.counts["compared"] += len(texts)
        if texts != question.expected:
            self.blame(f"{question.asked}: {texts} and alone {question.expected}")


async def read_whole(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    question = chance.choice(crowd.questions)
    await connection.ask(PATHS[question.is_chat], question.body())
    answer = json.loads(await connection.body())
    if connection.status == 503:
        crowd.counts["queue full"] += 1
    elif connection.status != 200:
        crowd.blame(f"{connection.status}: {answer}")
    else:
        crowd.check(question, texts_of(answer))


def texts_of(answer: dict[str, Any]) -> list[str]:
    """The replies of an answer in one piece."""
    return [choice["message"]["content"] if "message" in choice else choice["text"] for choice in answer["choices"]]


async def read_stream(crowd: Crowd, connection: Connection, chance: random.Random, pause: float = 0.0) -> None:
    question = chance.choice(crowd.questions)
    await connection.ask(PATHS[question.is_chat], question.body(stream=True))
    if connection.status == 503:
        crowd.counts["queue full"] += 1
        return
    texts, is_done = [""] * question.asked["n"], False
    async for event in connection.events():
        is_done = event is None
        for choice in (event or {}).get("choices", ()):
            texts[choice["index"]] += choice["delta"].get("content", "") if question.is_chat else choice["text"]
        await asyncio.sleep(pause)
    if not is_done:
        crowd.blame(f"a stream without an end: {question.asked}")
    crowd.check(question, texts)


async def read_slowly(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    await read_stream(crowd, connection, chance, chance.choice((0.02, 0.1)))


async def leave_a_stream(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    question, left = chance.choice(crowd.questions), chance.randrange(6)
    await connection.ask(PATHS[question.is_chat], question.body(stream=True, max_tokens=400))
    async for _ in connection.events():
        left -= 1
        if left < 0:
            return


async def leave_while_waiting(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    question = chance.choice(crowd.questions)
    body = question.body(max_tokens=400)
    await connection.send(connection.head(PATHS[question.is_chat], body) + body)
    await asyncio.sleep(chance.choice((0, 0.05, 0.5)))


async def break_off(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    await connection.send(connection.head(PATHS[True], b"{", 5000) + b'{"messages": [')
    await asyncio.sleep(chance.choice((0, 0.1, 1)))


async def send_too_much(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    await connection.ask(PATHS[True], b"[" * 1000, 10**9)
    if connection.status != 413:
        crowd.blame(f"{connection.status} for a gigabyte")


async def send_a_book(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    question = Question(True, {"messages": [{"role": "user", "content": f"{WORDS} " * 25_000}]})  # 2 MB
    await connection.ask(PATHS[True], question.body())
    answer = json.loads(await connection.body())
    if connection.status != 400 or "tokens" not in answer["error"]["message"]:
        crowd.blame(f"{connection.status} for a book: {answer}")


async def send_nonsense(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    body = chance.choice((b"{", b"\xff\xfe", b"[" * 20_000, b'{"messages": 5}', b'{"messages": [], "n": 1e999}'))
    await connection.ask(chance.choice(list(PATHS.values())), body)
    if connection.status != 400 or set(json.loads(await connection.body())) != {"error"}:
        crowd.blame(f"{connection.status} for {body[:30]!r}")


async def send_no_http(crowd: Crowd, connection: Connection, chance: random.Random) -> None:
    await connection.send(chance.choice((b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"A" * 300 + b"\r\n\r\n")))
    await connection.read_head()
    if connection.status != 400:
        crowd.blame(f"{connection.status} for what is no HTTP")


Act = Callable[[Crowd, Connection, random.Random], Awaitable[None]]
READERS: dict[str, Act] = {"whole": read_whole, "streamed": read_stream, "slow": read_slowly}
OTHERS: dict[str, Act] = {
    "left a stream": leave_a_stream,
    "left waiting": leave_while_waiting,
    "broke off": break_off,
    "too much": send_too_much,
    "a book": send_a_book,
    "nonsense": send_nonsense,
    "no HTTP": send_no_http,
}
ACTS = [*READERS.items(), *READERS.items(), *OTHERS.items()]
