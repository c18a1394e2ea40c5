"""The Gradio page: components, the handlers of their events, and the plots."""
