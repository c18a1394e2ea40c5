"""A short conversation and the controls beside it, for the tests of the chat."""

from llama_core.sampling.params import SamplingParams
from web.chat import actions
from web.chat.actions import Controls
from web.chat.conversation import ROOT, Alternative, Conversation, Node, Record

KNOBS = {name: knob.default for name, knob in SamplingParams.knobs().items()}
CONTROLS = Controls(KNOBS)
SHORT = Controls({**KNOBS, "max_new_tokens": 5})
OTHERS = (Alternative(1, " the", 0.6, 0.9), Alternative(2, " cat", 0.3, 0.1))
RECORDS = tuple(Record(token, "", 0.5, 0.5, OTHERS) for token in (1, 3, 7))


def talk():
    """A question, a reply of three tokens, and a question after it."""
    conversation = Conversation("abc").add(Node("user", ROOT, "one"))
    conversation = conversation.add(
        Node("assistant", 0, records=RECORDS, finish="length", model="fake", model_id="fake-id")
    )
    return conversation.add(Node("user", 1, "two"))


def begin(replies, text="one", conversation=None):
    """A question to the model that is served, and the short reply that begins with it."""
    return actions.ask(text, conversation or Conversation("abc"), replies.served.model, SHORT)
