"""Seeds of single episodes: an episode can be rebuilt from its number alone.

The environment that happens to play an episode has no part in its seed. So the same number begins with the
same observation whatever the size of the batch, and a validation episode is the same one on every machine.
"""

from __future__ import annotations

import zlib

import numpy as np


def episode_seed(seed: int, role: str, episode: int) -> int:
    """The seed that episode number ``episode`` of this role is reset with.

    31 bits, because emulators keep their seed in a signed 32-bit number.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(_key(role), episode))
    return int(sequence.generate_state(1, np.uint32)[0] >> 1)


def acting_stream(seed: int, role: str, window: int) -> np.random.Generator:
    """The random stream that actions of one window are drawn from, where no loop gives another."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_key(role), window, 1)))


def _key(role: str) -> int:
    """Roles as numbers; not `hash`, which differs from process to process."""
    return zlib.crc32(role.encode())
