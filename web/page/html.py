"""A component for our own HTML, without the style that Gradio gives to text."""

import functools

import gradio as gr

html = functools.partial(gr.HTML, apply_default_css=False, padding=False)
