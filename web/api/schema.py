"""What a program may ask, as pydantic models. The sampling parameters are made from the table of `SamplingParams`, so
that page, API and their limits are one."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from llama_core.sampling.grammar import MAX_CHARACTERS
from llama_core.sampling.params import MAX_ALTERNATIVES, SamplingParams

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_PROMPTS = 16
MOST_TOOLS = 128

# Without `fail_fast` every wrong entry of a list becomes an error; only the first is told.
Ids = Annotated[list[int], Field(fail_fast=True)]
PromptIds = Annotated[list[int], Field(min_length=1, fail_fast=True)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Whole = Annotated[int, Field(ge=1, le=2**31 - 1)]
Regex = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
Texts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, fail_fast=True)]
# What a reply has to be: a method of `GrammarCompiler`, and what it takes.
Rule = tuple[Literal["json_object", "json_schema", "regex", "choice"], Any]


class Form(BaseModel):
    """Unknown fields are ignored, as OpenAI's own servers ignore what is new to them."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class StreamOptions(Form):
    """`include_usage`: a last chunk tells how many tokens there were."""

    include_usage: bool = False


class TextPart(Form):
    """A part of a message."""

    type: Literal["text"]
    text: str


class CalledFunction(Form):
    """What was called; `arguments` are JSON as text."""

    name: FunctionName
    arguments: str


class ToolCall(Form):
    """A call of the assistant's."""

    id: str = Field(max_length=100)
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Form):
    """A message of the conversation. The assistant's may have `tool_calls` instead of words, and those of the role
    `tool` answer one of them."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True)] | None = None
    tool_calls: list[ToolCall] | None = Field(None, max_length=MOST_TOOLS)
    tool_call_id: str | None = Field(None, max_length=100)

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("a message has no content")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of the role tool has no tool_call_id")
        return self

    @property
    def text(self) -> str:
        """Its words."""
        if self.content is None:
            return ""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]


class Function(Form):
    """A function that the model may call; `parameters` is a JSON schema of an object."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Form):
    """A tool; functions are the only ones."""

    type: Literal["function"]
    function: Function


class NamedFunction(Form):
    """A function by its name."""

    name: FunctionName


class NamedTool(Form):
    """The tool that has to be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Form):
    """A schema that the reply has to fit; its `name` and `strict` are OpenAI's and change nothing here."""

    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Form):
    """What the reply has to be. `regex` and `choice` are ours."""

    type: Literal["text", "json_object", "json_schema", "regex", "choice"] = "text"
    json_schema: JsonSchema | None = None
    regex: Regex | None = Field(None, description="in the syntax of Rust's regex, matched by the whole reply")
    choice: Texts | None = Field(None, description="texts of which the reply is one")

    @model_validator(mode="after")
    def _has_what_it_names(self) -> "ResponseFormat":
        if self.type not in ("text", "json_object") and getattr(self, self.type) is None:
            raise ValueError(f"the type {self.type} needs the field {self.type}")
        return self

    @property
    def rule(self) -> Rule | None:
        """None: it may be any text."""
        match self.type:
            case "text":
                return None
            case "json_object":
                return "json_object", None
            case "json_schema":
                assert self.json_schema is not None, "it was checked"
                return "json_schema", self.json_schema.schema_
            case _:
                return self.type, getattr(self, self.type)


class StructuredOutputs(Form):
    """What the reply has to be, as vLLM's clients say it: one of these."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)  # what is not known here would not be kept to

    json_: dict[str, Any] | None = Field(None, alias="json", description="a JSON schema")
    json_object: bool | None = None
    regex: Regex | None = None
    choice: Texts | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "StructuredOutputs":
        if len(self._rules) != 1:
            raise ValueError("expected one of json, json_object, regex and choice")
        return self

    @property
    def _rules(self) -> list[Rule]:
        rules: tuple[Rule, ...] = (
            ("json_schema", self.json_),
            ("json_object", self.json_object or None),
            ("regex", self.regex),
            ("choice", self.choice),
        )
        return [rule for rule in rules if rule[1] is not None]

    @property
    def rule(self) -> Rule:
        """The one that is given."""
        return self._rules[0]


def _numbers() -> dict[str, Any]:
    """The numeric sampling parameters as optional fields, without `max_new_tokens`, which OpenAI calls otherwise."""
    rows = {}
    for name, knob in SamplingParams.knobs().items():
        kind = int if isinstance(knob.default, int) else float
        bounds = Field(None, ge=knob.minimum, le=knob.limit, description=f"{knob.label}. {knob.help}")
        rows[name] = (kind | None, bounds)
    del rows["max_new_tokens"]
    return rows


Sampling = create_model("Sampling", __base__=Form, **_numbers())


class SamplingChange(Sampling):  # type: ignore[valid-type, misc]
    """PATCH /v1/replies/{id}: how the rest of a reply is sampled. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)  # a misspelt name would change nothing


class Sampled(Sampling):  # type: ignore[valid-type, misc]
    """Whose tokens are drawn, and how. What is left out is what the makers of the model recommend."""

    model: str | None = Field(None, description="the model that is served, by its name in /v1/models")
    seed: int | None = Field(None, ge=0, le=2**32 - 1)
    logit_bias: dict[str, float] | None = None


class Generation(Sampled):
    """What both kinds of requests for replies have in common. A reply may go on to the end of the context."""

    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    max_tokens: Whole | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = Field(None, description="the same in the form of vLLM's clients")

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens the reply may have; None: as many as there is room for."""
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts to stop at."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(Generation):
    """POST /v1/chat/completions. If the last message is the assistant's, the reply goes on from it."""

    messages: Messages
    reply_ids: Ids = Field([], description="token ids that the reply begins with, after such a message (ours)")
    max_completion_tokens: Whole | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)
    tools: list[Tool] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = Field(True, description="whether a reply may call several tools")

    @property
    def wanted_tokens(self) -> int | None:
        """`max_tokens` is the older name."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Generation):
    """POST /v1/completions: the model continues a text, or token ids."""

    prompt: (
        str
        | PromptIds
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[PromptIds], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)
    echo: bool = False

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class AlternativesRequest(Sampled):
    """POST /v1/tokens/alternatives: what could come next, after a conversation or a text, and after the tokens of a
    reply to it."""

    messages: Messages | None = None
    prompt: str | PromptIds | None = None
    reply_ids: Ids = Field([], description="token ids that the reply begins with")
    top_logprobs: int = Field(10, ge=1, le=MAX_ALTERNATIVES)

    @model_validator(mode="after")
    def _has_one_prompt(self) -> "AlternativesRequest":
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("expected either messages or a prompt")
        return self
