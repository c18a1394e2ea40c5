"""Attention as the plain formula in NumPy, float64: what every form of ours is compared with."""

import numpy as np


def reference(q, keys, values, positions, sliding):
    """Each token of each head on its own, [B, T, HE]; keys and values are [B, K, C, E]."""
    out, per_head = np.zeros(q.shape), q.shape[2] // keys.shape[1]
    for b, t, h in np.ndindex(q.shape[:3]):
        last = positions[b, t]
        seen = slice(0 if sliding is None else max(0, last - sliding + 1), last + 1)
        scores = keys[b, h // per_head, seen].astype(np.float64) @ q[b, t, h] / np.sqrt(q.shape[-1])
        shares = np.exp(scores - scores.max())
        out[b, t, h] = shares / shares.sum() @ values[b, h // per_head, seen]
    return out.reshape(*q.shape[:2], -1)
