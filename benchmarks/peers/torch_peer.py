"""A shape in torch, as a peer of the engine on the same card: a Llama with a static cache under
`torch.compile(mode="reduce-overhead")`, as gpt-fast (meta-pytorch/gpt-fast) has it, and transformers' `generate`.

    python -m benchmarks.peers.torch_peer --model 1B

Random weights, one chat, greedy. The last line is one JSON object. benchmarks.gpu calls it.
"""

import argparse
import json
import time

from llama_core.model.config import NAMED_CONFIGS, LlamaConfig  # isort: skip - sets XLA's flags

import torch
import torch.nn.functional as F

CONTEXT = 512


class StaticLlama(torch.nn.Module):
    """The decode step of a Llama over a cache of fixed length."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config, D, E = config, config.hidden_size, config.head_dim
        H, K, FF = config.num_attention_heads, config.num_key_value_heads, config.intermediate_size

        def matrix(rows: int, columns: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(rows, columns) * 0.02, requires_grad=False)

        self.embedding = matrix(config.vocab_size, D)
        shapes = {"qkv": ((H + 2 * K) * E, D), "out": (D, H * E), "up": (2 * FF, D), "down": (D, FF)}
        self.layers = torch.nn.ModuleList(
            torch.nn.ParameterDict({name: matrix(*shape) for name, shape in shapes.items()})
            for _ in range(config.num_hidden_layers)
        )
        cache = torch.zeros(config.num_hidden_layers, 2, 1, K, CONTEXT, E)
        self.register_buffer("cache", cache)
        angles = torch.arange(CONTEXT)[:, None] * config.rope_theta ** (-torch.arange(0, E, 2) / E)
        self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1))
        self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], -1))

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """The likeliest next token; `token` and `position` are [1]."""
        config, x = self.config, self.embedding[token][None]
        H, K, E = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        mask = (torch.arange(CONTEXT, device=x.device) <= position)[None, None, None]
        for layer, cache in zip(self.layers, self.cache, strict=True):
            qkv = F.linear(F.rms_norm(x, x.shape[-1:]), layer["qkv"]).view(1, 1, H + 2 * K, E).transpose(1, 2)
            turned = qkv[:, : H + K] * self.cos[position] + qkv[:, : H + K].roll(E // 2, -1) * self.sin[position]
            turned = turned.to(x.dtype)
            cache[0].index_copy_(2, position, turned[:, H:])
            cache[1].index_copy_(2, position, qkv[:, H + K :])
            mixed = F.scaled_dot_product_attention(turned[:, :H], cache[0], cache[1], attn_mask=mask, enable_gqa=True)
            x = x + F.linear(mixed.transpose(1, 2).reshape(1, 1, -1), layer["out"])
            gate, up = F.linear(F.rms_norm(x, x.shape[-1:]), layer["up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return F.linear(F.rms_norm(x, x.shape[-1:]), self.embedding)[0, 0].argmax()[None]


@torch.inference_mode()
def compiled_speed(config: LlamaConfig, tokens: int) -> float:
    """Tokens a second of the compiled step in a loop."""
    model, token = StaticLlama(config), torch.ones(1, dtype=torch.long)
    step = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    positions = torch.arange(CONTEXT)[:, None]
    for position in positions[:4]:
        token = step(token, position).clone()
    token.item()
    begin = time.perf_counter()
    for position in positions[4 : 4 + tokens]:
        token = step(token, position).clone()
    token.item()
    return tokens / (time.perf_counter() - begin)


@torch.inference_mode()
def generate_speed(config: LlamaConfig, count: int, tokens: int) -> float:
    """Tokens a second of transformers' `generate` for so many chats together."""
    import transformers

    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config.to_dict())).eval()
    ids = torch.randint(3, config.vocab_size - 3, (count, 32))
    settings = dict(attention_mask=torch.ones_like(ids), min_new_tokens=tokens, do_sample=False, pad_token_id=0)
    model.generate(ids, max_new_tokens=tokens, **settings)
    begin = time.perf_counter()
    model.generate(ids, max_new_tokens=tokens, **settings)[0, -1].item()
    return count * tokens / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="1B", choices=NAMED_CONFIGS)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    config = NAMED_CONFIGS[options.model]
    torch.set_default_device(options.device)
    torch.set_default_dtype(getattr(torch, options.dtype))
    result = {
        "compiled_static_cache": round(compiled_speed(config, 256), 1),
        "generate_1": round(generate_speed(config, 1, 24), 1),
        "generate_8": round(generate_speed(config, 8, 24), 1),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
