"""Tools: how a family of models calls them, a schema for a call that has to come, and calls found in replies.

The forms are those that the makers of the models publish with their templates. Llama 3.1 and 3.2 (llama.com, "Prompt
formats"): a JSON object with `name` and `parameters`. Hermes (NousResearch/Hermes-Function-Calling) and Qwen 2.5:
`<tool_call>` around `name` and `arguments`. Mistral (docs.mistral.ai, "Function calling"): `[TOOL_CALLS]` and a list.
"""

import json
import re
import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_core.tokenizer.tokenizer import without_surrogates

ID_CHARACTERS = string.ascii_letters + string.digits
ID_LENGTH = 9  # Mistral's templates take no other
MOST_BETWEEN = 100  # characters and markers between two calls; a model that goes on with white space writes text again

Call = dict[str, Any]  # in OpenAI's form; what comes of it later has no id


@dataclass(frozen=True)
class ToolForm:
    """How one family writes a call: what `opens` it, what may close it, the name of its arguments, and whether calls
    are a list. Models leave `opens` out now and then, so JSON at the beginning of a reply may be a call, too. A prompt
    for a call that has to come ends with `begins`."""

    opens: str
    closes: str
    arguments: str
    begins: str
    is_list: bool = False

    @property
    def markers(self) -> tuple[str, ...]:
        """Tokens that readers of a reply do not see, but the parser has to."""
        return tuple(filter(None, (self.opens, self.closes)))


LLAMA = ToolForm("<|python_tag|>", "", "parameters", "")  # the token is for tools that were trained in
HERMES = ToolForm("<tool_call>", "</tool_call>", "arguments", "<tool_call>\n")
MISTRAL = ToolForm("[TOOL_CALLS]", "", "arguments", "[TOOL_CALLS]", is_list=True)


def form_of(template: str | None) -> ToolForm | None:
    """The form that a chat template asks the model for; None if it has no tools, or no form that we know."""
    if template is None or "tools" not in template:
        return None
    if MISTRAL.opens in template:
        return MISTRAL
    if HERMES.opens in template:
        return HERMES
    return LLAMA if re.search(r'"parameters\\?":', template) else None


def schema_of_call(form: ToolForm, functions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A JSON schema for a call of one of these functions, each with a `name` and the schema of its `parameters`, in the
    family's form without its markers. The parameters stand among the definitions, and refer to what is in them."""
    calls, definitions = [], {}
    for function in functions:
        place = f"#/$defs/{function['name']}"
        definitions[function["name"]] = _with_references_below(place, function["parameters"])
        properties = {"name": {"const": function["name"]}, form.arguments: {"$ref": place}}
        calls.append(
            {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
        )
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    whole = {"type": "array", "items": call, "minItems": 1, "maxItems": 1} if form.is_list else call
    return {**whole, "$defs": definitions}


def _with_references_below(place: str, schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {
            key: place + part[1:]
            if key == "$ref" and isinstance(part, str) and part.startswith("#")
            else _with_references_below(place, part)
            for key, part in schema.items()
        }
    return [_with_references_below(place, part) for part in schema] if isinstance(schema, list) else schema


def new_call(name: str, arguments: str = "") -> Call:
    """A call with an id of its own; `arguments` are JSON, or come later."""
    call_id = "".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


class ToolCallParser:
    """Finds the calls of known functions in a reply as it is written: `push` gives the text that may be shown and the
    calls that are complete, `end` the rest. What looks like a call and is none comes as text: nothing is lost."""

    def __init__(self, form: ToolForm, names: Collection[str]):
        self._form, self._names = form, names
        self._held = ""  # neither shown nor found to be a call yet
        self._is_beginning, self._in_calls, self._had_call = True, False, False
        self._object: ObjectEnd | None = None  # of the call that is being written
        between = "|".join((*map(re.escape, form.markers), r"[\s;,\[\]]"))
        self._between = re.compile(f"(?:{between}){{0,{MOST_BETWEEN}}}")

    def push(self, text: str) -> tuple[str, list[Call]]:
        """The next piece of the reply."""
        self._held += text
        shown, calls = "", []
        while (found := self._next_call() if self._in_calls else self._next_text()) is not None:
            if isinstance(found, str):
                shown += found
            else:
                calls.append(found)
        return shown, calls

    def end(self) -> str:
        """What is left of a reply that ended: text, or a call that was cut off."""
        rest, self._held = self._held, ""
        return "" if self._had_call and self._between.fullmatch(rest) else rest

    def _next_text(self) -> str | None:
        """Text before a call, without what may be the beginning of one; None if more has to come first."""
        opens, first = self._form.opens, self._held.lstrip()
        if self._is_beginning:
            if first != opens and opens.startswith(first):
                return None
            self._is_beginning = False
            if first[0] == ("[" if self._form.is_list else "{") and not first.startswith(opens):
                self._in_calls = True
                return ""
        before, marker, after = self._held.partition(opens)
        if marker:
            self._held, self._in_calls = marker + after, True  # the marker is text again if no call comes
            return before
        kept = next((size for size in range(len(opens) - 1, 0, -1) if before.endswith(opens[:size])), 0)
        text, self._held = before[: len(before) - kept], before[len(before) - kept :]
        return text or None

    def _next_call(self) -> Call | str | None:
        """The next call, or text that is none, or None if more has to come first."""
        if self._object is None:
            between = self._between.match(self._held)
            start = between.end() if between else 0
            rest = self._held[start:]
            if any(marker.startswith(rest) for marker in self._form.markers):
                return None
            if rest[0] != "{":
                return self._as_text(start, "" if self._had_call else self._held[:start])
            self._object = ObjectEnd(start)
        start, end = self._object.start, self._object.find(self._held)
        if end is None:
            return None
        self._object = None
        call = self._call_of(self._held[start:end])
        if call is None:
            return self._as_text(end, self._held[:end])
        self._held, self._had_call = self._held[end:], True
        return call

    def _as_text(self, end: int, text: str) -> str:
        """No call begins here: what is held up to `end` is this text, and text follows."""
        self._held, self._in_calls, self._had_call = self._held[end:], False, False
        return text

    def _call_of(self, text: str) -> Call | None:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        name, arguments = value.get("name"), value.get(self._form.arguments)
        is_known = isinstance(name, str) and name in self._names
        if not is_known or not isinstance(arguments, dict):
            return None
        return new_call(name, without_surrogates(json.dumps(arguments, ensure_ascii=False)))


class CertainCall:
    """The call that has to come, told as it is written: first its name, then its arguments, piece by piece. A grammar
    keeps it to the form of `schema_of_call` on one line, so that nothing else can come of it."""

    def __init__(self, form: ToolForm):
        self._begins = re.compile(rf'\[?{{"name": "([^"]+)", "{form.arguments}": ')
        self._text, self._told = "", 0  # how much of the text was told
        self._arguments: ObjectEnd | None = None

    def push(self, text: str) -> tuple[str, list[Call]]:
        """The next piece of the reply: no text, and what is new of the call."""
        self._text += text
        parts: list[Call] = []
        if self._arguments is None:
            begin = self._begins.match(self._text)
            if begin is None:
                return "", []
            parts.append(new_call(begin[1]))
            self._told, self._arguments = begin.end(), ObjectEnd(begin.end())
        until = self._arguments.find(self._text) or len(self._text)
        if until > self._told:
            parts.append({"function": {"arguments": self._text[self._told : until]}})
            self._told = until
        return "", parts

    def end(self) -> str:
        """A reply that was cut off before its call had a name is text."""
        return self._text if self._arguments is None else ""


class ObjectEnd:
    """Finds where a JSON object ends that begins at `start` of a text that grows. Each character is looked at once."""

    def __init__(self, start: int):
        self.start = self._position = start
        self._depth, self._in_string = 0, False
        self._end: int | None = None

    def find(self, text: str) -> int | None:
        """The index after the object; None if the text ends before."""
        while self._end is None and self._position < len(text):
            character = text[self._position]
            self._position += 2 if character == "\\" else 1  # what is escaped ends no string
            if character == '"':
                self._in_string = not self._in_string
            elif character in "{}" and not self._in_string:
                self._depth += 1 if character == "{" else -1
            if not self._depth:
                self._end = self._position
        return self._end
