"""GGUF files, the format of llama.cpp: which files of a folder or repository make a model, their headers, configuration
and tensors. Names of formats and the meaning of their blocks come from the `gguf` package."""
