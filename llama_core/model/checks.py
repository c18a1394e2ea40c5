"""Checks single values of a model's configuration, and `ConfigError`, which says which one is wrong."""

from llama_core.errors import UserError

# Keys for which the model computes one value only (given in all its spellings), and what to say about others.
SUPPORTED: dict[str, tuple[tuple[object, ...], str]] = {
    "hidden_act": (("silu", "swish"), "is not supported; Llama uses 'silu'"),
    "partial_rotary_factor": ((1, 1.0), "is not supported; Llama turns all of a head"),
    "quantization_config": (
        ({"quant_method": "glass-llama"},),
        "says that the weights are quantised; choose the unquantised repository of this model",
    ),
}


class ConfigError(UserError):
    """A model configuration that cannot be used; the message names the key, its value and what was expected."""


def quote_value(value: object) -> str:
    """A value from a file as an error message quotes it: at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def require_number(name: str, value: object) -> None:
    """Raises `ConfigError` unless `value` is a positive number that floating point can hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e15:
        raise ConfigError(f"config: {name} is {quote_value(value)}; expected a positive number")


def require_bool(name: str, value: object) -> None:
    """Raises `ConfigError` unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"config: {name} is {quote_value(value)}; expected true or false")


def require_int(name: str, value: object, minimum: int, maximum: int) -> None:
    """Raises `ConfigError` unless `value` is a whole number in this range, ends included."""
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise ConfigError(
            f"config: {name} is {quote_value(value)}; expected a whole number from {minimum} to {maximum}"
        )


def require_supported(name: str, value: object) -> None:
    """Raises `ConfigError` unless the key is absent or has a value that the model supports (see `SUPPORTED`)."""
    allowed, words = SUPPORTED[name]
    if value and not any(value == one for one in allowed):
        raise ConfigError(f"config: {name} {quote_value(value)} {words}")
