"""From a request to what the engine takes: token ids and sampling parameters. Templates and long texts take time, so
these run in a thread beside the event loop."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llama_core.checkpoint import Model
from llama_core.sampling.grammar import Grammar, GrammarCompiler, GrammarError
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer import Tokenizer
from web.api.errors import ApiError
from web.api.schema import AlternativesRequest, ChatRequest, CompletionRequest, Generation, Rule, Sampled
from web.api.tool_use import ToolUse, rows_of, tool_use
from web.chat.actions import stop_at_markers
from web.settings import Settings

REWRITTEN = 4


@dataclass(frozen=True)
class Asked:
    """One prompt: its ids, the ids of the reply that it goes on with, how to sample, the text that comes before the
    reply (`echo`), the grammar that the reply follows, and the tools that it may call."""

    ids: list[int]
    params: SamplingParams
    begun: tuple[int, ...] = ()
    echo: str = ""
    grammar: Grammar | None = None
    tools: ToolUse | None = None


def of_chat(request: ChatRequest, model: Model, context: int) -> list[Asked]:
    """The prompt of a conversation. Typed text cannot become a special token. Raises `UserError`, `ApiError`."""
    messages, tools = rows_of(request.messages), tool_use(request, model)
    begun: tuple[int, ...] = ()
    if messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
        begun = tuple(model.tokenizer.encode(messages.pop()["content"]))
    begun += tuple(request.reply_ids)
    if not messages:
        raise ApiError("messages has nothing to answer; expected a user's message", param="messages")
    wanted = (request.top_logprobs or 0) if request.logprobs else None
    if request.top_logprobs and not request.logprobs:
        raise ApiError("top_logprobs needs logprobs to be true", param="top_logprobs")
    params = _params(request, model, request.wanted_tokens, wanted, context)
    ids = model.chat.for_tools.prompt_ids(messages, tools.shown) if tools else model.chat.prompt_ids(messages)
    grammar = _grammar(request, model)
    if tools and tools.schema is not None:
        if grammar is not None or begun:
            words = "a call that has to come goes with neither response_format nor a begun reply; leave one of them out"
            raise ApiError(words, param="tool_choice")
        with _named("tools"):
            grammar = model.grammars.json_schema(tools.schema, on_one_line=True)
        ids = ids + model.tokenizer.encode_template(tools.form.begins)
    return [Asked(ids, params, begun, grammar=grammar, tools=tools)]


def _grammar(request: Generation, model: Model) -> Grammar | None:
    """What the reply has to be, compiled; None: any text."""
    given = {"response_format": request.response_format, "structured_outputs": request.structured_outputs}
    rules = {name: form.rule for name, form in given.items() if form is not None and form.rule is not None}
    if len(rules) > 1:
        words = "response_format and structured_outputs both say what the reply has to be; leave one of them out"
        raise ApiError(words, param="structured_outputs")
    for name, rule in rules.items():
        with _named(name):
            return _compiled(rule, model.grammars)
    return None


def _compiled(rule: Rule, grammars: GrammarCompiler) -> Grammar:
    match rule:
        case "json_object", _:
            return grammars.json_object()
        case "json_schema", schema:
            return grammars.json_schema(schema)
        case "regex", pattern:
            return grammars.regex(pattern)
        case _, texts:
            return grammars.choice(texts)


@contextmanager
def _named(param: str) -> Iterator[None]:
    """A grammar that cannot be used is refused with the parameter that it came in."""
    try:
        yield
    except GrammarError as problem:
        raise ApiError(str(problem), param=param) from None


def of_completion(request: CompletionRequest, model: Model, context: int) -> list[Asked]:
    """The prompts of a text completion. Raises `UserError`, `ApiError`."""
    if request.echo and request.logprobs is not None:
        raise ApiError("echo with logprobs is not supported: those of the prompt are not computed", param="logprobs")
    params = _params(request, model, request.max_tokens or 16, request.logprobs, context)  # 16: as OpenAI has it
    tokenizer, grammar, asked = model.tokenizer, _grammar(request, model), []
    for prompt in request.prompts:
        begins = tokenizer.bos_id is not None and tokenizer.begins_with_bos
        ids = tokenizer.encode(prompt, bos=begins) if isinstance(prompt, str) else prompt
        if not request.echo:
            echo = ""
        elif isinstance(prompt, str):
            echo = prompt
        else:
            echo = tokenizer.decode([token_id for token_id in prompt if token_id < model.config.vocab_size])
        asked.append(Asked(ids, params, echo=echo, grammar=grammar))
    return asked


def of_alternatives(request: AlternativesRequest, model: Model, context: int) -> list[Asked]:
    """The prompt of the one token that is asked for, its reply's tokens after it. Raises `UserError`, `ApiError`."""
    shared = request.model_dump(exclude_none=True, exclude={"messages", "prompt", "reply_ids", "top_logprobs"})
    if request.messages is not None:
        return of_chat(
            ChatRequest(
                **shared,
                messages=request.messages,
                reply_ids=request.reply_ids,
                max_tokens=1,
                logprobs=True,
                top_logprobs=request.top_logprobs,
            ),
            model,
            context,
        )
    asked = CompletionRequest(**shared, prompt=request.prompt, max_tokens=1, logprobs=request.top_logprobs)
    [one] = of_completion(asked, model, context)
    return [dataclasses.replace(one, begun=tuple(request.reply_ids))]


def _params(
    request: Generation, model: Model, max_tokens: int | None, logprobs: int | None, context: int
) -> SamplingParams:
    numbers = {name: getattr(request, name, None) for name in SamplingParams.knobs()}
    given = {name: value for name, value in numbers.items() if value is not None}
    try:
        bias = tuple((int(token_id), value) for token_id, value in (request.logit_bias or {}).items())
    except ValueError:
        raise ApiError("logit_bias has a key that is no token id", param="logit_bias") from None
    params = dataclasses.replace(
        model.defaults,
        **given,
        max_new_tokens=max_tokens or context,
        seed=request.seed,
        stop=request.stops,
        logit_bias=bias,
        logprobs=logprobs,
    )
    return stop_at_markers(params, model.tokenizer)


def require_room(request: Sampled, tokenizer: Tokenizer, room: int) -> None:
    """Raises `ApiError` for a prompt that cannot fit into `room` tokens however it is cut, before time is spent on it.
    Tokenizers that rewrite a text make it shorter by `REWRITTEN` times at most: wide letters, composed ones."""
    least = _characters(request) // (REWRITTEN * tokenizer.longest_token)
    if least > room:
        words = f"the prompt has {least} tokens or more, and prompt and reply together may have {room}; shorten it"
        raise ApiError(words, code="context_length_exceeded", param="messages")


def _characters(request: Sampled) -> int:
    """Of its longest prompt."""
    match request:
        case ChatRequest(messages=messages) | AlternativesRequest(messages=list(messages)):
            return sum(len(message.text) for message in messages)
        case CompletionRequest(prompts=prompts):
            return max((len(prompt) for prompt in prompts if isinstance(prompt, str)), default=0)
        case AlternativesRequest(prompt=str(text)):
            return len(text)
    return 0


def require_size(asked: Sequence[Asked], most_tokens: int) -> None:
    """Raises `ApiError` for a prompt of more tokens than a program may send (0: any number)."""
    longest = max(len(one.ids) + len(one.begun) for one in asked)
    if most_tokens and longest > most_tokens:
        words = f"the prompt has {longest} tokens; at most {most_tokens} are taken here, so shorten it"
        raise ApiError(words, code="context_length_exceeded", param="messages")


def within_limits(request: Sampled, settings: Settings) -> None:
    """Raises `ApiError` for more messages or a longer reply than a program may ask for."""
    messages = len(request.messages or ()) if isinstance(request, ChatRequest | AlternativesRequest) else 0
    if messages > settings.max_messages:
        words = f"there are {messages} messages; at most {settings.max_messages} are taken here: leave older ones out"
        raise ApiError(words, code="too_many_messages", param="messages")
    most = settings.max_reply_tokens
    wanted = request.wanted_tokens if isinstance(request, Generation) else None
    if most and wanted and wanted > most:
        raise ApiError(f"max_tokens is {wanted}; a reply may have at most {most} here", param="max_tokens")


def seeded(params: SamplingParams, choice: int) -> SamplingParams:
    """The parameters of one of several choices: a given seed gives each its own, and the first the same as alone."""
    return params if params.seed is None else dataclasses.replace(params, seed=(params.seed + choice) % 2**32)


def require_model(name: str | None, served: str) -> None:
    """Raises `ApiError` if a request is for another model than the one that is served."""
    if name and name not in (served, served.partition("@")[0], "default"):
        raise ApiError(f"the model {name!r} is not served here; {served!r} is", 404, "model_not_found", "model")
