"""A Llama in JAX: configuration, weights, the forward pass, sampling and the engine that serves it. No Gradio here."""
