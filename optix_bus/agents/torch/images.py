"""Networks for images: the one of Mnih et al. 2015, and describing it for those that act in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optix_bus.agents.acting.order import is_convolutional, is_convolutional_front
from optix_bus.agents.images import (
    CONVOLUTIONS,
    UNITS,
    channels_last,
    check_sizes,
    flat_size,
    weight_shapes,
)
from optix_bus.agents.torch.networks import collect, describe
from optix_bus.types import SpaceSpec


class ImageInput(nn.Module):
    """Bytes as numbers from 0 to 1, channels in front: ``[B, *shape]`` to ``[B, channels, height, width]``.

    Args:
        channels_last: whether the last axis holds the channels.
    """

    def __init__(self, channels_last: bool) -> None:
        super().__init__()
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        """Images of two axes have one channel."""
        x = images / 255.0
        if x.dim() == 3:
            return x.unsqueeze(1)
        return x.permute(0, 3, 1, 2) if self.channels_last else x


def build_cnn(
    shape: tuple[int, ...], outputs: int, *, output_gain: float, generator: torch.Generator
) -> nn.Sequential:
    """Three convolutions and 512 units, rectified; orthogonal weights, zero biases.

    The gain is sqrt 2, that of the last layer ``output_gain``.

    Mnih et al. 2015, https://doi.org/10.1038/nature14236, methods, "Model architecture".

    Args:
        shape: of one image, at least 36 x 36; see `optix_bus.agents.images`.
        outputs: numbers that the last, linear layer puts out.
        output_gain: of the weights of the last layer.
        generator: draws all weights.
    """
    last = nn.utils.skip_init(nn.Linear, UNITS, outputs)  # type: ignore[no-untyped-call]
    return build_encoder(shape, generator=generator).append(_begun(last, output_gain, generator))


def build_encoder(shape: tuple[int, ...], *, generator: torch.Generator) -> nn.Sequential:
    """`build_cnn` without its last layer: images to ``[B, UNITS]``, rectified."""
    first = nn.utils.skip_init(nn.Linear, flat_size(shape), UNITS)  # type: ignore[no-untyped-call]
    convolutions = build_convolutions(shape, generator=generator)
    return convolutions.append(_begun(first, math.sqrt(2.0), generator)).append(nn.ReLU())


def build_convolutions(shape: tuple[int, ...], *, generator: torch.Generator) -> nn.Sequential:
    """The three convolutions of `build_cnn`, rectified: images to ``[B, flat_size(shape)]``."""
    layers: list[nn.Module] = [ImageInput(channels_last(shape))]
    *convolutions, _, _ = weight_shapes(shape, 0)
    for (filters, channels, size, _), (_, _, stride) in zip(convolutions, CONVOLUTIONS, strict=True):
        convolution = nn.utils.skip_init(nn.Conv2d, channels, filters, size, stride)  # type: ignore[no-untyped-call]
        layers += [_begun(convolution, math.sqrt(2.0), generator), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


def _begun(layer: Any, gain: float, generator: torch.Generator) -> nn.Module:
    """The layer as training begins."""
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    module: nn.Module = layer
    return module


def images_network(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    outputs: int,
    *,
    output_gain: float,
    generator: torch.Generator,
) -> nn.Sequential:
    """`build_cnn` for an environment.

    Raises:
        ConfigurationError: hidden sizes were asked for, which it does not have.
    """
    check_sizes(spaces, hidden_sizes)
    return build_cnn(spaces.observation.shape, outputs, output_gain=output_gain, generator=generator)


def describe_images(module: nn.Module, prefix: str) -> list[dict[str, Any]] | None:
    """The layers of a network for images for `optix_bus.agents.acting.images`, or None where it is none.

    It is a flat ``nn.Sequential``: perhaps `ImageInput`, then convolutions without padding and activations,
    ``nn.Flatten``, and a network that `describe` knows.
    """
    layers = _layers(module, prefix)
    return layers if is_convolutional(layers) else None


def describe_front(module: nn.Module, prefix: str) -> list[dict[str, Any]] | None:
    """The layers of a network in front of others, for `optix_bus.agents.acting.images.forward_of`.

    It is one that `describe` or `describe_images` knows, or ends with ``nn.Flatten`` behind convolutions;
    None where it is another.
    """
    layers = _layers(module, prefix)
    return layers if is_convolutional_front(layers) else describe(module, prefix)


def _layers(module: nn.Module, prefix: str) -> list[dict[str, Any]]:
    """Of a flat ``nn.Sequential``, in whatever order; none where one is unknown."""
    if type(module) is not nn.Sequential or module._forward_hooks or module._forward_pre_hooks:
        return []
    layers: list[dict[str, Any]] = []
    for name, layer in module._modules.items():
        if not _collect(layer, f"{prefix}.{name}", layers):
            return []
    return layers


def _collect(layer: nn.Module | None, prefix: str, layers: list[dict[str, Any]]) -> bool:
    if layer is None or layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        return False
    if type(layer) is ImageInput:
        layers.append({"op": "image", "channels_last": layer.channels_last})
        return True
    if type(layer) is not nn.Conv2d:
        return collect(layer, prefix, layers)
    plain = layer.padding in ((0, 0), "valid") and layer.dilation == (1, 1) and layer.groups == 1
    if not plain or layer.weight.dtype is not torch.float32:
        return False
    bias = None if layer.bias is None else f"{prefix}.bias"
    layers.append({"op": "conv", "weight": f"{prefix}.weight", "bias": bias, "stride": list(layer.stride)})
    return True
