"""Random streams of nodes, derived from names and counts."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, node: str, *key: int | str) -> np.random.Generator:
    """The generator of (seed, node, key).

    Hashing keeps streams of different keys apart whatever the keys are; the same arguments give the same
    stream on every platform.
    """
    text = "/".join([str(seed), node, *map(str, key)])
    entropy = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.PCG64(entropy))
