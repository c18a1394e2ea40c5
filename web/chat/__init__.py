"""A conversation and what happens to it: from an action of the person to the reply, without Gradio."""
