"""The library of native kernels, where `llama_core/kernels/build.py` finds it."""
