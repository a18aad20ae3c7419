"""Where an agent computes."""

from __future__ import annotations

import torch

from optix_bus.errors import ConfigurationError


def resolve_device(device: str | torch.device, *, small: bool = False) -> torch.device:
    """The device to use; ``auto`` is CUDA where there is one, except for small networks.

    A small feed-forward network (one that NumPy can run) learns faster on the CPU than a GPU can be fed.

    Raises:
        ConfigurationError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and not small else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"device {device!r} cannot be used here ({reason}); expected 'auto', 'cpu' or 'cuda'"
        ) from error
    return chosen
