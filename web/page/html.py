"""Pieces of our own HTML on the page, without the looks that Gradio gives to text."""

import functools

import gradio as gr

html = functools.partial(gr.HTML, apply_default_css=False, padding=False)
