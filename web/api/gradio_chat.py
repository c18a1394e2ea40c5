"""The chat for Gradio's own clients: `gradio_client`, and Spaces that load this one."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
import pydantic

from llama_core.errors import UserError
from web.api.errors import ApiError, invalid
from web.api.replies import Replies
from web.api.schema import ChatRequest
from web.beside import beside

DESCRIPTION = (
    "Chat with the model. history holds the earlier messages, with role and content; options are those of "
    "/v1/chat/completions, such as temperature, seed and max_tokens. The text of the reply comes as it grows."
)


def add_gradio_chat(page: gr.Blocks, replies: Replies) -> None:
    """Gives the page the endpoint `/chat` for programs."""

    async def chat(
        message: str,
        history: list[dict[str, Any]] = [],  # noqa: B006 - Gradio shows the default, and nothing changes it
        options: dict[str, Any] = {},  # noqa: B006
        request: gr.Request = None,  # type: ignore[assignment]  # Gradio gives it
    ) -> AsyncIterator[str]:
        http = request.request
        assert http is not None, "Gradio's clients come over HTTP"
        messages = [*history, {"role": "user", "content": message}]
        try:
            given = {**options, "messages": messages, "tools": None}
            asked = await beside(ChatRequest.model_validate, given)
            async for text in replies.texts(http, asked):
                yield text
        except pydantic.ValidationError as problem:
            raise gr.Error(str(invalid(problem.errors())), print_exception=False) from None
        except (ApiError, UserError) as problem:
            raise gr.Error(str(problem), print_exception=False) from None

    with page:
        gr.api(chat, api_name="chat", api_description=DESCRIPTION, concurrency_limit=None)
