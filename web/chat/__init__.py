"""The conversation, from what a person does to the reply that is streamed. No Gradio here."""
