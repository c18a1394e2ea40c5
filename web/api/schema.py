"""What a program may ask, as pydantic models. The sampling parameters are made from the table of `SamplingParams`, so
that page, API and their limits are one."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from llama_core.sampling.params import MAX_ALTERNATIVES, SamplingParams

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_PROMPTS = 16

Stop = Annotated[str, Field(min_length=1, max_length=200)]
Whole = Annotated[int, Field(ge=1, le=2**31 - 1)]


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


class Message(Form):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """Its words."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class JsonSchema(Form):
    """A schema that the reply has to fit; its `name` and `strict` are OpenAI's and change nothing here."""

    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Form):
    """What the reply has to be."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


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


class Generation(Sampling):  # type: ignore[valid-type, misc]
    """What both kinds of requests have in common. Parameters that are left out are those that the makers of the model
    recommend; a reply may go on to the end of the context."""

    model: str | None = Field(None, description="the model that is served, by its name in /v1/models")
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    seed: int | None = Field(None, ge=0, le=2**32 - 1)
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    max_tokens: Whole | None = None
    logit_bias: dict[str, float] | None = None

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

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Whole | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = Field(None, max_length=0, description="not supported yet")

    @property
    def wanted_tokens(self) -> int | None:
        """`max_tokens` is the older name."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Generation):
    """POST /v1/completions: the model continues a text, or token ids."""

    prompt: (
        str
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)
    echo: bool = False

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)
