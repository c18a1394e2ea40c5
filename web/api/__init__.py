"""The OpenAI-compatible HTTP API, beside the page in one process and on one port."""
