"""Networks for images: the one of Mnih et al. 2015, and describing it for those that act in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optix_bus.agents.acting.activations import NAMES
from optix_bus.agents.images import channels_last, image_size
from optix_bus.agents.torch.networks import collect, describe
from optix_bus.errors import ConfigurationError
from optix_bus.types import SpaceSpec

#: Filters, their size and their stride, and the units behind them.
_CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
_UNITS = 512


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
    channels, height, width = image_size(shape)
    layers: list[nn.Module] = [ImageInput(channels_last(shape))]
    for filters, size, stride in _CONVOLUTIONS:
        convolution = nn.utils.skip_init(nn.Conv2d, channels, filters, size, stride)  # type: ignore[no-untyped-call]
        layers += [convolution, nn.ReLU()]
        channels, height, width = filters, (height - size) // stride + 1, (width - size) // stride + 1
    for fan_in, fan_out in ((channels * height * width, _UNITS), (_UNITS, outputs)):
        layers += [nn.utils.skip_init(nn.Linear, fan_in, fan_out), nn.ReLU()]  # type: ignore[no-untyped-call]
    layers = [*layers[:7], nn.Flatten(), *layers[7:-1]]
    trained = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in trained:
        gain = output_gain if layer is trained[-1] else math.sqrt(2.0)
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


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
    if hidden_sizes is not None:
        raise ConfigurationError(
            f"hidden_sizes are {list(hidden_sizes)}, but the network for images of {spaces.environment} has "
            "sizes of its own; leave them out, or pass your own networks to the agent"
        )
    return build_cnn(spaces.observation.shape, outputs, output_gain=output_gain, generator=generator)


def describe_images(module: nn.Module, prefix: str) -> list[dict[str, Any]] | None:
    """The layers of a network for images for `optix_bus.agents.acting.images`, or None where it is none.

    It is a flat ``nn.Sequential``: perhaps `ImageInput`, then convolutions without padding and activations,
    ``nn.Flatten``, and a network that `describe` knows.
    """
    if type(module) is not nn.Sequential or module._forward_hooks or module._forward_pre_hooks:
        return None
    children = list(module._modules.items())
    cut = next((number for number, (_, layer) in enumerate(children) if type(layer) is nn.Flatten), 0)
    front: list[dict[str, Any]] = []
    for number, (name, layer) in enumerate(children[:cut]):
        if not _collect_front(layer, f"{prefix}.{name}", front) or (number and front[-1]["op"] == "image"):
            return None
    behind: list[dict[str, Any]] = []
    for name, layer in children[cut + 1 :]:
        if layer is None or not collect(layer, f"{prefix}.{name}", behind):
            return None
    # Whether the order of what stands behind makes sense is known there.
    fits = describe(nn.Sequential(*(layer for _, layer in children[cut + 1 :] if layer is not None)), prefix)
    if fits is None or fits[0]["op"] != "linear" or not any(layer["op"] == "conv" for layer in front):
        return None
    return [*front, {"op": "flatten"}, *behind]


def _collect_front(layer: nn.Module | None, prefix: str, layers: list[dict[str, Any]]) -> bool:
    if layer is None or layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        return False
    if type(layer) is ImageInput:
        layers.append({"op": "image", "channels_last": layer.channels_last})
        return True
    if type(layer) is not nn.Conv2d:
        before = len(layers)
        return collect(layer, prefix, layers) and all(each["op"] in NAMES for each in layers[before:])
    plain = layer.padding in ((0, 0), "valid") and layer.dilation == (1, 1) and layer.groups == 1
    if not plain or layer.weight.dtype is not torch.float32:
        return False
    bias = None if layer.bias is None else f"{prefix}.bias"
    layers.append({"op": "conv", "weight": f"{prefix}.weight", "bias": bias, "stride": list(layer.stride)})
    return True
