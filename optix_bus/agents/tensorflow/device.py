"""Where an agent computes."""

from __future__ import annotations

import tensorflow as tf

from optix_bus.errors import ConfigurationError

_KINDS = {"cpu": "CPU", "gpu": "GPU", "cuda": "GPU"}


def resolve_device(device: str) -> str:
    """The device on which to make networks; ``auto`` is the CPU.

    A small feed-forward network learns faster on the CPU than a GPU can be fed. Networks that the user has
    made stay where they are.

    Raises:
        ConfigurationError: no such device here.
    """
    kind, _, number = str(device).lower().removeprefix("/").removeprefix("device:").partition(":")
    kind = "cpu" if kind == "auto" else kind
    found = [each.name for each in tf.config.list_logical_devices(_KINDS.get(kind, kind))]
    name = f"/device:{_KINDS.get(kind, kind)}:{number or 0}"
    if name not in found:
        there = ", ".join(each.name for each in tf.config.list_logical_devices())
        raise ConfigurationError(
            f"device {device!r} cannot be used here; expected 'auto', 'cpu' or 'cuda', and there is {there}"
        )
    return name
