"""Which observations are images, how they lie in memory, and the sizes of the network that sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optix_bus.errors import ConfigurationError
from optix_bus.types import ArraySpec, SpaceSpec

#: Height and width that the three convolutions of Mnih et al. 2015 need.
SMALLEST = 36
#: Filters, their size and their stride, and the units behind them: https://doi.org/10.1038/nature14236,
#: methods, "Model architecture".
CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
UNITS = 512
#: Numbers that a critic makes of an image before an action joins them, and units of the layer that sees both.
FEATURES = 256
# More channels than this are no colours and no stack of frames.
_CHANNELS = 16
_INSTEAD = "gymnasium.wrappers.FlattenObservation, or pass your own networks to the agent"


def is_image(observation: ArraySpec) -> bool:
    """Bytes in two or three axes."""
    return observation.kind == "box" and observation.dtype == "uint8" and len(observation.shape) in (2, 3)


def channels_last(shape: Sequence[int]) -> bool:
    """Whether the last axis holds the channels, as most environments have it; stacked frames come first."""
    return len(shape) == 3 and shape[-1] <= _CHANNELS and shape[-1] < shape[0]


def image_size(shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width."""
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    return (shape[2], shape[0], shape[1]) if channels_last(shape) else (shape[0], shape[1], shape[2])


def image_misfit(observation: ArraySpec) -> str | None:
    """What keeps the network from these observations, and what would help; None where nothing does.

    Of what is neither an image nor looks like one it says that it is no vector.
    """
    shape = list(observation.shape)
    # Height and width are the two longest axes, wherever they stand.
    large = len(shape) in (2, 3) and sorted(shape)[-2] >= SMALLEST
    if is_image(observation):
        _, height, width = image_size(shape)
        if min(height, width) >= SMALLEST:
            return None
        if large:
            return (
                f"images have shape {shape}, expected [height, width], [channels, height, width], or "
                f"[height, width, channels] of at most {_CHANNELS} channels; turn them with "
                f"gymnasium.wrappers.TransformObservation, or take {_INSTEAD}"
            )
        return (
            f"images of shape {shape} are {height} x {width}, expected {SMALLEST} x {SMALLEST} or more; wrap "
            f"the environment in gymnasium.wrappers.ResizeObservation or {_INSTEAD}"
        )
    if large:
        return (
            f"observations are {observation.dtype} of shape {shape}, expected a vector [n], or bytes (uint8, "
            "0 to 255) where they are images; wrap the environment in "
            f"gymnasium.wrappers.TransformObservation, which makes bytes of them, or {_INSTEAD}"
        )
    return f"observations have shape {shape}, expected a vector [n]; wrap the environment in {_INSTEAD}"


def check_sizes(spaces: SpaceSpec, hidden_sizes: Sequence[int] | None) -> None:
    """Raise `ConfigurationError` where hidden sizes were asked for, which the network does not have."""
    if hidden_sizes is not None:
        raise ConfigurationError(
            f"hidden_sizes are {list(hidden_sizes)}, but the network for images of {spaces.environment} has "
            "sizes of its own; leave them out, or pass your own networks to the agent"
        )


def flat_size(shape: Sequence[int]) -> int:
    """Numbers that the convolutions leave of an image of this shape."""
    return weight_shapes(shape, 0)[len(CONVOLUTIONS)][1]


def weight_shapes(shape: Sequence[int], outputs: int) -> list[tuple[int, ...]]:
    """Shapes of all weights for images of this shape and so many outputs, in the order of the layers.

    Those of a convolution are ``[filters, channels, size, size]``, those of the two layers behind
    ``[out, in]``; what these take are all numbers of the first channel, then those of the next.
    """
    channels, height, width = image_size(shape)
    shapes: list[tuple[int, ...]] = []
    for filters, size, stride in CONVOLUTIONS:
        shapes.append((filters, channels, size, size))
        channels, height, width = filters, (height - size) // stride + 1, (width - size) // stride + 1
    return [*shapes, (UNITS, math.prod((channels, height, width))), (outputs, UNITS)]
