"""What a request says of tools, as the chat template and the engine take it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_core.checkpoint import Model
from web.api.errors import ApiError
from web.api.schema import ChatRequest, Message, NamedTool, Tool, ToolCall
from web.api.tools import CertainCall, ToolCallParser, ToolForm, form_of, schema_of_call

NO_PARAMETERS = {"properties": {}, "additionalProperties": False}
MOST_LEVELS = 64  # of objects and lists inside each other; templates and grammars walk them by recursion


@dataclass(frozen=True)
class ToolUse:
    """The tools of one request: as they are `shown` to the model, the family's `form` of a call, the `names` that may
    be called, and the `schema` of the call where one has to come. `markers` are the special tokens that the parser has
    to see. `is_parallel`: there may be several calls."""

    shown: Sequence[dict[str, Any]]
    form: ToolForm
    names: frozenset[str]
    markers: Mapping[int, str]
    schema: dict[str, Any] | None = None
    is_parallel: bool = True

    def parser(self) -> ToolCallParser | CertainCall:
        """A parser for one reply."""
        return ToolCallParser(self.form, self.names) if self.schema is None else CertainCall(self.form)


def tool_use(request: ChatRequest, model: Model) -> ToolUse | None:
    """None where no tool may be called. Raises `ApiError` for tools that the model's template cannot show."""
    choice, tools = request.tool_choice, request.tools or []
    if choice == "none" or (not tools and choice == "auto"):
        return None
    form = form_of(model.chat.for_tools.template)
    if form is None:
        raise ApiError("the chat template of this model takes no tools in a form that is known here", param="tools")
    functions = [_function_of(tool) for tool in tools]
    if len({one["name"] for one in functions}) < len(functions):
        raise ApiError("two tools have the same name; give each its own", param="tools")
    wanted = [one for one in functions if not isinstance(choice, NamedTool) or one["name"] == choice.function.name]
    if not wanted:
        raise ApiError("tool_choice asks for a tool that is not among tools", param="tool_choice")
    shown = [{"type": "function", "function": function} for function in functions]
    schema = None if choice == "auto" else schema_of_call(form, wanted)
    ids = model.tokenizer.special_tokens
    markers = {ids[marker]: marker for marker in form.markers if marker in ids}
    callable_names = frozenset(one["name"] for one in wanted)
    return ToolUse(shown, form, callable_names, markers, schema, request.parallel_tool_calls)


def _function_of(tool: Tool) -> dict[str, Any]:
    """With all keys, because templates add up what they have."""
    name, description, parameters = tool.function.name, tool.function.description, tool.function.parameters
    what = f"the parameters of {name}"
    _require_shallow(parameters, what, "tools")
    parameters = NO_PARAMETERS if parameters is None else parameters
    if parameters.get("type", "object") != "object":
        raise ApiError(f"{what} are of the type {parameters['type']!r}; expected an object", param="tools")
    return {"name": name, "description": description or "", "parameters": {"type": "object", **parameters}}


def rows_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as templates read them: arguments as objects, and answers with the name of what they answer. Raises
    `ApiError` for arguments that are no JSON object, and for an answer to no call."""
    rows: list[dict[str, Any]] = []
    names: dict[str | None, str] = {}
    for message in messages:
        role = "system" if message.role == "developer" else message.role
        row: dict[str, Any] = {"role": role, "content": message.text}
        if role == "assistant" and message.tool_calls:
            row["tool_calls"] = [_row_of_call(call) for call in message.tool_calls]
            names |= {call.id: call.function.name for call in message.tool_calls}
        if role == "tool":
            if message.tool_call_id not in names:
                words = f"the tool_call_id {message.tool_call_id!r} is that of no call before; send the call, too"
                raise ApiError(words, param="messages")
            row |= {"tool_call_id": message.tool_call_id, "name": names[message.tool_call_id]}
        rows.append(row)
    return rows


def _row_of_call(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise ApiError(f"the arguments of the call {call.id!r} are no JSON object", param="messages")
    _require_shallow(arguments, f"the arguments of the call {call.id!r}", "messages")
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _require_shallow(value: Any, what: str, param: str) -> None:
    level = [value]
    for _ in range(MOST_LEVELS):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list))]
        level = [value for values in inner for value in values]
    if level:
        raise ApiError(f"{what} have more than {MOST_LEVELS} levels; make them flatter", param=param)
