"""Every English sentence of the page: `TEXT` for Python, `SCRIPT` for the scripts in assets/ (`script_words.py`). Those
about the inside of the model are in `hood_words.py`. They are read in the language of who asks (`languages/`)."""

from llama_core.sampling.params import SamplingParams
from web.hood_words import HOOD
from web.languages import Sentences
from web.script_words import ENGLISH_SCRIPT

KNOBS = SamplingParams.knobs()

ENGLISH_TEXT = {
    # the page
    "chat": "Chat",
    "chats": "Chats",
    "message": "Message",
    "settings": "Settings",
    "system": "System prompt",
    "system_hint": "Instructions for the whole chat",
    "system_merged": "This model knows no system messages: your first question will begin with these words.",
    "prefill": "Start the reply with",
    "prefill_hint": "The model continues from this text.",
    "sampling": "Sampling",
    "sampling_reset": "Reset all sampling",
    "more": "Penalties",
    "stop_at": "Stop sequences",
    "stop_at_help": "One per line. The reply ends before any of them. \\n is a new line.",
    "seed": "Seed",
    "seed_help": "The same seed gives the same reply. Empty: a new one each time.",
    "welcome": "Ask something. Each word is coloured by how sure the model was. Click a word to see the alternatives, "
    "or pick one and continue from there.",
    "continues": "Begin a text and the model continues it. Each word is coloured by how sure the model was. Click a "
    "word to see the alternatives.",
    # one a line; what a small model does well
    "examples": "Explain in two sentences why the sky is blue\nTell me a short story about a lighthouse\n"
    "Write a Python function that adds two numbers\nList five fruits",
    "beginnings": "Once upon a time, there was\nThe capital of France is\nThe best way to learn is\n"
    "One day, a little dog",
    # facts about the model
    "parameters": "{count} parameters",
    "runs_on": "runs on {device}",
    "random": "This model is untrained: the words are noise.",
    "no_template": "This model was not trained to chat: it continues your text.",
    "guide": "You are talking to the guide, a tiny built-in model that knows this app and little else.",
    # presets
    "presets": "Preset",
    "preset_keep": "Manage presets",
    "preset_name": "Name of a new preset",
    "preset_save": "Save",
    "preset_delete": "Delete",
    "preset_saved": "Saved as “{name}”",
    "preset_deleted": "Deleted “{name}”",
    "preset_likeliest": "Deterministic",
    "preset_careful": "Careful",
    "preset_balanced": "Balanced",
    "preset_wild": "Creative",
    "preset_plain": "Unmodified",
    "preset_unnamed": "Write a name first",
    "preset_builtin": "“{name}” comes with the page and stays; choose another name",
    "preset_full": "There are {limit} presets already; delete one first",
    # the plot
    "plot": "Next-word odds",
    "plot_empty": "Click a word of a reply to see its alternatives here. The model writes in tokens: words or parts of "
    "words; ␣ is a blank.",
    "plot_title": "Instead of “{token}”",
    "plot_sure": "Nearly certain: one real choice.",
    "plot_choices": "About {count} real choices.",
    "plot_choices_after": "After sampling: {count}.",
    "plot_own": "raw",
    "plot_after": "after sampling",
    "plot_row": "{token}: raw {own}, after sampling {after}",
    "plot_gone": "cut",
    "plot_branch": "Pick another to continue from here.",
    "plot_cut": "Cut here: {kept} of {all} tokens are left, {share} of the raw probability",
    "plot_whole": "No cut: all {all} tokens are possible",
    # the status line
    "ready": "Ready",
    "getting_ready": "Warming up: {done} of {total} programs (you can already ask)",
    "getting_ready_soon": "Warming up…",
    "not_ready": "The model cannot be used: see the console of the server.",
    "waiting": "Reading the prompt…",
    "in_line": "Waiting for a free slot: place {place} in line…",
    "speed": "{speed:.1f} tokens/s",
    "first": "first token after {seconds:.2f} s",
    "token": "{count} token",
    "tokens_count": "{count} tokens",
    "prompt": "{count} prompt tokens",
    "cached": ", {count} reused",
    "context": "{used} of {size} tokens of context",
    # why a reply ended
    "stop_reason": "Finished",
    "cut_reason": "Stop sequence reached",
    "length_reason": "Length limit ({limit})",
    "context_reason": "Context full ({context})",
    "cancelled_reason": "Stopped",
    "error_reason": "Ended by an error",
    "time_limit_reason": "Time limit reached",
    "shutdown_reason": "Stopped by the server",
    # problems
    "unexpected": "An unexpected error: see the console of the server ({kind})",
    "empty_message": "Write something first",
    "nothing_to_answer": "There is no question to answer; write one first",
    "history_form": "The conversation sent by the browser is not readable; reload the page",
    "history_turns": "The conversation has more than {limit} messages; begin a new one",
    "history_size": "The conversation has {found} characters, at most {limit} are taken; begin a new one",
    "post_size": "What was sent is larger than {limit} MB, the most that is taken; begin a new conversation",
    "post_time": "what was sent did not come to its end within {seconds:g} seconds; try again over a better connection",
    "logins": "More than {limit} logins a minute; try again in {seconds} seconds",
    "other_host": "This server does not answer to the name “{host}”. Whoever runs it can allow a name with "
    "--allowed-hosts.",
    "other_model": "This reply was written by {model}; load that model to go on from its words",
    "bad_seed": "The seed is {found}; expected a whole number from 0 to {limit}, or nothing",
    "bad_stop": "“Stop sequences” is too long; expected at most {limit} lines of at most {length} characters",
    "bad_knob": "{label} is {found}; expected a number",
    # the sheet of models
    "model_recommends": "Recommended by its makers, and set: {values}",
    "model_recommends_nothing": "Its makers recommend no sampling; the page starts with {values}.",
    "model_memory": "{memory} of memory",
    "model_name": "Another model",
    "model_name_hint": "Search, or enter a Hugging Face id or a local folder",
    "model_name_hub_hint": "Search, or enter a Hugging Face id (name/repository)",
    "model_not_offered": "This page loads the models of the list and those on the Hub (name/repository); other folders "
    "are loaded by whoever runs it",
    "model_file": "Which of its files",
    "model_file_hint": "The smaller the file, the less exact its weights.",
    "model_file_row": "{name} ({size})",
    "model_built_in": "Built in",
    "model_fits": "Small enough for this machine ({free} free)",
    "model_larger": "Larger than this machine has room for",
    "model_noise": "untrained, for testing",
    "model_file_size": "{size} file",
    "model_needs": "needs {memory}",
    "model_licence": "{licence} licence: ask for access",
    "model_unreadable": "cannot be read",
    "model_check": "Check size",
    "model_load": "Load",
    "model_cancel": "Cancel",
    "model_off": "The model of this page is set by whoever runs it.",
    "model_looking": "Looking up {name}…",
    "model_estimate": "{name}: {count} parameters. Files {files}. Memory {memory}: weights {weights} in {dtype}, "
    "cache for {slots} chats of {context} tokens {cache}.",
    "model_fits_here": "This machine has {free} free.",
    "model_tight": "This machine has only {free} free: it will not fit. Choose a smaller model, or start the app with "
    "fewer --slots or a shorter --max-seq-len.",
    "model_busy": "Already loading {name}: wait or cancel it.",
    "model_choose": "Choose a model, or enter a Hugging Face id.",
    "step_download": "Downloading {name}: {done} of {total} MB",
    "step_weights": "Loading weights: {done} of {total} tensors",
    "step_kernels": "Compiling native kernels, once (about 10 seconds)",
    "step_compile": "Compiling: {done} of {total} programs",
    "model_loaded": "Loaded {name}. This chat continues with it.",
    "model_cancelled": "Cancelled. {name} stays.",
    "model_failed": "Not loaded: {problem}",
    **HOOD,
    **{f"knob_{name}": knob.label for name, knob in KNOBS.items()},
    **{f"knob_{name}_help": knob.help for name, knob in KNOBS.items()},
}

TEXT, SCRIPT = Sentences("text", ENGLISH_TEXT), Sentences("script", ENGLISH_SCRIPT)
