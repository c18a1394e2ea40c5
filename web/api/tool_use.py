"""What a request says of tools, as the chat template and the engine take it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from web.api.errors import ApiError
from web.api.schema import ChatRequest, Message, NamedTool, ToolCall
from web.api.tools import ToolCallParser, ToolForm, form_of, schema_of_call


@dataclass(frozen=True)
class ToolUse:
    """The tools of one request: as they are `shown` to the model, the family's form of a call, the names that may be
    called, and the schema of the call where one has to come."""

    shown: Sequence[dict[str, Any]]
    form: ToolForm
    names: frozenset[str]
    schema: dict[str, Any] | None = None

    def parser(self) -> ToolCallParser:
        """A parser for one reply."""
        return ToolCallParser(self.form, self.names, is_open=self.schema is not None)


def tool_use(request: ChatRequest, template: str | None) -> ToolUse | None:
    """None where no tool may be called. Raises `ApiError` for tools that the model's template cannot show."""
    choice, tools = request.tool_choice, request.tools or []
    if choice == "none" or (not tools and choice == "auto"):
        return None
    form = form_of(template)
    if form is None:
        raise ApiError("the chat template of this model takes no tools in a form that is known here", param="tools")
    functions = [tool.function.model_dump(exclude_none=True) for tool in tools]
    wanted = [one for one in functions if not isinstance(choice, NamedTool) or one["name"] == choice.function.name]
    if not wanted:
        raise ApiError("tool_choice asks for a tool that is not among tools", param="tool_choice")
    shown = [{"type": "function", "function": function} for function in functions]
    schema = None if choice == "auto" else schema_of_call(form, wanted)
    return ToolUse(shown, form, frozenset(one["name"] for one in wanted), schema)


def rows_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as templates read them: arguments as objects, and answers with the name of what they answer. Raises
    `ApiError` for arguments that are no JSON object, and for an answer to no call."""
    rows: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in messages:
        row: dict[str, Any] = {
            "role": "system" if message.role == "developer" else message.role,
            "content": message.text,
        }
        if message.role == "assistant" and message.tool_calls:
            row["tool_calls"] = [_row_of_call(call) for call in message.tool_calls]
            names |= {call.id: call.function.name for call in message.tool_calls}
        if message.role == "tool":
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
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}
