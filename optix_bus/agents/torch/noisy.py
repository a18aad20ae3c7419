"""Linear layers whose noise is learnt.

Fortunato et al. 2018, Noisy Networks for Exploration, https://arxiv.org/abs/1706.10295, section 3, with
factorised Gaussian noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class NoisyLinear(nn.Module):
    """``y = (mu_w + sigma_w * eps_w) x + mu_b + sigma_b * eps_b`` with ``eps_w = f(eps_out) f(eps_in)^T``.

    Noise is used in training mode alone, and stays until it is drawn anew: `reset_noise`. A layer whose noise
    was never drawn has none.

    Args:
        in_features: numbers in.
        out_features: numbers out.
        sigma_0: sigma begins at ``sigma_0 / sqrt(in_features)``.
        generator: of the initial weights; by default torch's own.
    """

    eps_in: Tensor
    eps_out: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        sigma_0: float = 0.5,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.sigma_0 = in_features, out_features, sigma_0
        bound = 1.0 / math.sqrt(in_features)
        mu = [torch.empty(shape) for shape in ((out_features, in_features), (out_features,))]
        for tensor in mu:
            nn.init.uniform_(tensor, -bound, bound, generator=generator)
        self.weight_mu, self.bias_mu = (nn.Parameter(tensor) for tensor in mu)
        self.weight_sigma, self.bias_sigma = (
            nn.Parameter(torch.full_like(tensor, sigma_0 * bound)) for tensor in mu
        )
        # No part of a state: noise belongs to the moment.
        self.register_buffer("eps_in", torch.zeros(in_features), persistent=False)
        self.register_buffer("eps_out", torch.zeros(out_features), persistent=False)

    def reset_noise(self, generator: torch.Generator | None = None) -> None:
        """Draw new noise from a generator on the layer's device, by default torch's own."""
        device, dtype = self.eps_in.device, self.eps_in.dtype
        size = self.in_features + self.out_features
        self.set_noise(torch.randn(size, generator=generator, device=device, dtype=dtype))

    def set_noise(self, noise: Tensor) -> None:
        """Use these standard normal numbers ``[in + out]``."""
        scaled = noise.sign() * noise.abs().sqrt()
        self.eps_in, self.eps_out = torch.split(scaled, [self.in_features, self.out_features])

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``; with the noise drawn last in training mode, otherwise without."""
        if not self.training:
            return nn.functional.linear(x, self.weight_mu, self.bias_mu)
        weight = torch.addcmul(self.weight_mu, self.weight_sigma, torch.outer(self.eps_out, self.eps_in))
        return nn.functional.linear(x, weight, torch.addcmul(self.bias_mu, self.bias_sigma, self.eps_out))

    def extra_repr(self) -> str:
        """Sizes, as other layers print them."""
        return f"{self.in_features}, {self.out_features}, sigma_0={self.sigma_0}"


def noisy_layers(module: nn.Module) -> list[NoisyLinear]:
    """All of them, in the order of their names."""
    return [layer for layer in module.modules() if isinstance(layer, NoisyLinear)]


def draw_noise(layers: list[NoisyLinear], generator: torch.Generator) -> None:
    """New noise for all layers with one draw."""
    sizes = [layer.in_features + layer.out_features for layer in layers]
    if not sizes:
        return
    like = layers[0].eps_in
    drawn = torch.randn(sum(sizes), generator=generator, device=like.device, dtype=like.dtype)
    for layer, noise in zip(layers, torch.split(drawn, sizes), strict=True):
        layer.set_noise(noise)
