"""Everything a person or a program outside sees: settings, the Gradio page, its look, the server. No `jax` import.

The libraries below read these variables while they are imported, so they are set here, before any of them is.
"""

import os

for _name, _value in {
    "GRADIO_ANALYTICS_ENABLED": "False",
    # A table of the last 10 000 events, made anew after each one, for a dashboard that this page does not have.
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
}.items():
    os.environ.setdefault(_name, _value)
