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

DECODER = json.JSONDecoder()
ID_CHARACTERS = string.ascii_letters + string.digits
ID_LENGTH = 9  # Mistral's templates take no other


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
    """A JSON schema for a call of one of these functions, in the family's form without its markers. Definitions in the
    parameters move to the top, where references look for them; of two with one name the last is taken."""
    calls: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for function in functions:
        parameters = dict(function.get("parameters") or {"type": "object", "properties": {}})
        for place in ("$defs", "definitions"):
            if place in parameters:
                definitions[place] = definitions.get(place, {}) | parameters.pop(place)
        properties = {"name": {"const": function["name"]}, form.arguments: parameters}
        calls.append(
            {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
        )
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    whole = {"type": "array", "items": call, "minItems": 1, "maxItems": 1} if form.is_list else call
    return {**whole, **definitions}


def new_call(name: str, arguments: Any) -> dict[str, Any]:
    """A call in OpenAI's form, with an id of its own."""
    call_id = "".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))
    text = json.dumps(arguments, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


class ToolCallParser:
    """Finds the calls of known functions in a reply as it is written: `push` gives the text that may be shown and the
    calls that are complete, `end` the rest. What looks like a call and is none comes as text: nothing is lost."""

    def __init__(self, form: ToolForm, names: Collection[str], is_open: bool = False):
        """`is_open`: the prompt ends with what opens a call."""
        self._form, self._names = form, names
        self._text, self._in_calls, self._at_start = "", is_open, True
        self._skipped, self._had_call = "", False  # what opened a call is text again if none came
        between = [*map(re.escape, form.markers), r"[\s;,\[\]]"]
        self._between = re.compile(f"(?:{'|'.join(between)})*")

    def push(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """The next piece of the reply."""
        self._text += text
        shown = ""
        calls: list[dict[str, Any]] = []
        while True:
            if not self._in_calls:
                shown += self._take_text()
            if not self._in_calls:
                return shown, calls
            found = self._take_call()
            if found is None:
                return shown, calls
            shown += found if isinstance(found, str) else ""
            calls += [] if isinstance(found, str) else [found]

    def end(self) -> str:
        """What is left of a reply that ended: text, or a call that was cut off."""
        rest = self._skipped + self._text
        self._text = self._skipped = ""
        return "" if self._had_call and not self._between.sub("", rest) else rest

    def _take_text(self) -> str:
        """Text before a call, without what may be the beginning of one."""
        if self._at_start:
            stripped = self._text.lstrip()
            if not stripped or (self._form.opens.startswith(stripped) and stripped != self._form.opens):
                return ""
            self._at_start = False
            if not stripped.startswith(self._form.opens) and stripped[0] == ("[" if self._form.is_list else "{"):
                self._in_calls = True
                return ""
        opens = self._form.opens
        before, marker, after = self._text.partition(opens)
        if marker:
            self._text, self._in_calls, self._skipped = after, True, marker
            return before
        held = next((size for size in range(len(opens) - 1, 0, -1) if self._text.endswith(opens[:size])), 0)
        before, self._text = self._text[: len(self._text) - held], self._text[len(self._text) - held :]
        return before

    def _take_call(self) -> dict[str, Any] | str | None:
        """The next call, or text that is none, or None if more has to come."""
        start = self._between.match(self._text).end()  # type: ignore[union-attr]  # it matches nothing, too
        if start == len(self._text) or any(marker.startswith(self._text[start:]) for marker in self._form.markers):
            return None
        if self._text[start] != "{":
            text = "" if self._had_call else self._skipped + self._text[:start]
            self._text, self._skipped, self._in_calls, self._had_call = self._text[start:], "", False, False
            return text
        if "}" not in self._text[start:]:
            return None
        try:
            value, end = DECODER.raw_decode(self._text, start)
        except (ValueError, RecursionError):
            return None
        arguments = value.get(self._form.arguments)
        text, self._text = self._skipped + self._text[:end], self._text[end:]
        self._skipped = ""
        name = value.get("name")
        self._had_call = isinstance(name, str) and name in self._names and isinstance(arguments, dict)
        return new_call(name, arguments) if self._had_call else text
