"""Where each sampling parameter is computed: the table, and the line that it leads to."""

import ast
import functools

from web.source import read_lines

SAMPLER = "llama_core/sampling/sampler.py"

# Sampling parameter → file and function.
KNOB_CODE = {
    "temperature": (SAMPLER, "distribution"),
    "top_k": (SAMPLER, "distribution"),
    "top_p": (SAMPLER, "distribution"),
    "min_p": (SAMPLER, "distribution"),
    "repetition_penalty": (SAMPLER, "adjust"),
    "presence_penalty": (SAMPLER, "adjust"),
    "frequency_penalty": (SAMPLER, "adjust"),
    "max_new_tokens": ("llama_core/engine/scheduler.py", "_prepare"),
}


def code_of(knob: str) -> tuple[str, int]:
    """The file, and in the function that computes this parameter the first line that mentions it. Raises `LookupError`
    if the function is not there or does not mention it."""
    path, function = KNOB_CODE[knob]
    lines, functions = _read(path)
    for number in functions.get(function, ()):
        if knob in lines[number - 1]:
            return path, number
    raise LookupError(f"{path}: no function {function} that mentions {knob}; correct KNOB_CODE")


@functools.cache
def _read(path: str) -> tuple[list[str], dict[str, range]]:
    """The lines of a file, and which of them are the body of each function."""
    lines = read_lines(path)
    found = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef)]
    return lines, {node.name: range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1) for node in found}
