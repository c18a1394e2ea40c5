"""Logits → distribution → token, on the device; and the table of sampling parameters that page, API and docs share."""

from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import next_token_distribution

__all__ = ["SamplingParams", "next_token_distribution"]
