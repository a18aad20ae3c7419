"""Which observations are images, and how they lie in memory."""

from __future__ import annotations

from optix_bus.types import ArraySpec

#: Height and width that the three convolutions of Mnih et al. 2015 need.
SMALLEST = 36
# More channels than this are no colours and no stack of frames.
_CHANNELS = 16


def is_image(observation: ArraySpec) -> bool:
    """Bytes in two or three axes."""
    return observation.kind == "box" and observation.dtype == "uint8" and len(observation.shape) in (2, 3)


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last axis holds the channels, as most environments have it; stacked frames come first."""
    return len(shape) == 3 and shape[-1] <= _CHANNELS and shape[-1] < shape[0]


def image_size(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width."""
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    return (shape[2], shape[0], shape[1]) if channels_last(shape) else (shape[0], shape[1], shape[2])
