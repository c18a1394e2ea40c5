"""Every English sentence of the page, in one table."""

TEXT = {
    # the page
    "conversation": "Conversation",
    "message": "Message",
    "message_hint": "Write a message",
    "settings": "Settings",
    "system": "System prompt",
    "system_hint": "How the model should behave, said once for the whole conversation",
    "seed": "Seed",
    "seed_help": "The same seed gives the same reply. Empty: a new one each time.",
    "welcome": "Say something, and watch the words come.",
    "continues": "Begin a text, and watch how it goes on.",
    # facts about the model
    "parameters": "{count} parameters",
    "runs_on": "runs on {device}",
    "random": "This model is random: the words are noise. For real words, load a real model:",
    "random_command": "python app.py --model NAME",
    "no_template": "This model was not trained to chat: it continues your text.",
    # the status line
    "ready": "Ready",
    "waiting": "Reading the prompt…",
    "in_line": "Waiting for a free slot, place {place} in line…",
    "speed": "{speed:.1f} tokens/s",
    "first": "first token after {seconds:.2f} s",
    "token": "{count} token",
    "tokens": "{count} tokens",
    # why a reply ended
    "stop_reason": "the model finished",
    "length_reason": "reached the limit of {limit} tokens",
    "context_reason": "the context of {context} tokens is full",
    "cancelled_reason": "stopped by you",
    "error_reason": "ended by an error",
    # problems, shown as messages in the conversation
    "problem": "**No reply:** {problem}",
    "broken_off": "**The reply broke off:** {problem}",
    "unexpected": "an unexpected error, see the console of the server ({kind})",
    "silent": "*The model ended its turn without a word.*",
    "empty_message": "write something first",
    "history_form": "the conversation sent by the browser is not readable; reload the page",
    "history_turns": "the conversation has more than {limit} messages; clear it and start again",
    "history_size": "the conversation has {found} characters, at most {limit} are taken; shorten or clear it",
    "bad_seed": "the seed is {found}; expected a whole number from 0 to {limit}, or nothing",
    "bad_knob": "{label} is {found}; expected a number",
}
