"""The page: which components there are and which handler each event calls. What handlers do stands in handlers.py."""

from collections.abc import AsyncIterator
from html import escape
from typing import Any

import gradio as gr

from llama_core.sampling import SamplingParams
from web import handlers, status
from web.handlers import Replies, Turn, View
from web.history import show
from web.settings import Settings
from web.strings import TEXT

# No spinner over the conversation, no endpoint for other programs, and no waiting for other people's events. Inside
# Gradio's queue all the same: outside of it a changed `gr.State` calls nobody.
QUIET = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}


def build_page(engine: Any, model: Any, settings: Settings) -> gr.Blocks:
    """The chat page of one engine and its `Model`."""
    replies = Replies(engine, model)
    with gr.Blocks(title=settings.title, fill_height=True, analytics_enabled=False) as page:
        gr.HTML(_header(engine, model, settings.title), elem_id="header", padding=False)
        with gr.Sidebar(label=TEXT["settings"], position="right", width=340, elem_id="settings"):
            controls = _controls(engine, model, settings)
        conversation = gr.Chatbot(
            label=TEXT["conversation"], elem_id="conversation", show_label=False, scale=1, min_height=160,
            editable="user", buttons=["copy", "copy_all"], layout="bubble", group_consecutive_messages=False,
            placeholder=TEXT["welcome"] if model.chat.has_template else TEXT["continues"],
        )
        line = gr.HTML(status.line(TEXT["ready"]), elem_id="status", padding=False)
        box = gr.Textbox(
            label=TEXT["message"], elem_id="message", show_label=False, placeholder=TEXT["message_hint"], lines=1,
            max_lines=8, autofocus=True, submit_btn=True, stop_btn=False,
        )
        turn = gr.State(Turn())
        _connect(replies, conversation, line, box, turn, controls)
    page.max_threads = 128  # a private hook: the default of 40 also caps async handlers, so 40 chats would be all
    page.queue(api_open=False, default_concurrency_limit=None)
    page._queue.sleep_when_free = 0.01  # a private hook: an idle page otherwise burns 8 % of a core polling
    return page


def _header(engine: Any, model: Any, title: str) -> str:
    facts = (
        model.name,
        TEXT["parameters"].format(count=status.count_in_words(model.parameter_count)),
        model.dtype,
        TEXT["runs_on"].format(device=engine.device),
    )
    spans = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    notice = ""
    if model.is_random:
        command = f"<code>{escape(TEXT['random_command'])}</code>"
        notice = f'<p class="notice">{escape(TEXT["random"])} {command}</p>'
    elif not model.chat.has_template:
        notice = f'<p class="notice">{escape(TEXT["no_template"])}</p>'
    return f'<h1>{escape(title)}</h1><p class="facts">{spans}</p>{notice}'


def _controls(engine: Any, model: Any, settings: Settings) -> list[gr.components.Component]:
    """System prompt, seed, and one slider a row of the table of knobs, in that order."""
    system = gr.Textbox(settings.system_prompt, label=TEXT["system"], info=TEXT["system_hint"], lines=3, max_lines=10)
    sliders = []
    for name, knob in SamplingParams.knobs().items():
        maximum = min(knob.maximum, engine.max_seq_len) if name == "max_new_tokens" else knob.maximum
        value = min(getattr(model.defaults, name), maximum)
        sliders.append(gr.Slider(knob.minimum, maximum, value, step=knob.step, label=knob.label, info=knob.help))
    seed = gr.Textbox("", label=TEXT["seed"], info=TEXT["seed_help"])  # a Number shows nothing as 0
    return [system, seed, *sliders]


def _connect(
    replies: Replies, conversation: gr.Chatbot, line: gr.HTML, box: gr.Textbox, turn: gr.State, controls: list
) -> None:
    knob_names = tuple(SamplingParams.knobs())
    outputs = [conversation, line, box, turn]

    def ask(text: str, sent: Any, turn: Turn, request: gr.Request):
        if request.session_hash in replies.running:  # Enter while a reply is written: the words stay in the box
            return _updates(View())
        return _updates(handlers.ask(text, sent, turn))

    def retry(sent: Any, turn: Turn, event: gr.RetryData, request: gr.Request):
        replies.abandon(request.session_hash)
        return _updates(handlers.retry(event.index, sent, turn))

    def edit(sent: Any, turn: Turn, event: gr.EditData, request: gr.Request):
        replies.abandon(request.session_hash)
        return _updates(handlers.edit(event.index, event.previous_value, event.value, sent, turn))

    def undo(sent: Any, typed: str, event: gr.UndoData, request: gr.Request):
        replies.abandon(request.session_hash)
        return _updates(handlers.undo(event.index, sent, typed))

    def clear(request: gr.Request):
        replies.abandon(request.session_hash)
        return _updates(handlers.clear())

    def stop(request: gr.Request):
        return _updates(replies.stop(request.session_hash))

    async def respond(
        request: gr.Request, turn: Turn, sent: Any, system: str, seed: Any, *values: Any
    ) -> AsyncIterator[list]:
        knobs = dict(zip(knob_names, values, strict=True))
        async for view in replies.respond(request.session_hash, turn, sent, system, seed, knobs):
            yield _updates(view)

    box.submit(ask, [box, conversation, turn], outputs, **QUIET)
    box.stop(stop, None, outputs, **QUIET)
    conversation.retry(retry, [conversation, turn], outputs, **QUIET)
    conversation.edit(edit, [conversation, turn], outputs, **QUIET)
    conversation.undo(undo, [conversation, box], outputs, **QUIET)
    conversation.clear(clear, None, outputs, **QUIET)
    # A new turn is what starts a reply, whichever of the above brought it.
    turn.change(respond, [turn, conversation, *controls], outputs, **QUIET)


def _updates(view: View) -> list[Any]:
    """A view as updates of the components in `outputs`; what is None stays as it is."""
    box: dict[str, Any] = {}
    if view.draft is not None:
        box["value"] = view.draft
    if view.running is not None:
        box.update(submit_btn=not view.running, stop_btn=view.running)
    return [
        gr.skip() if view.messages is None else show(view.messages),
        gr.skip() if view.status is None else view.status,
        gr.update(**box) if box else gr.skip(),
        gr.skip() if view.turn is None else view.turn,
    ]
