"""Adam on one flat vector: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


@dataclass
class FlatAdam:
    """Moments and step count for ``count`` parameters; the settings have the meaning they have in PyTorch."""

    count: int
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    steps: int = 0
    first: Float32 = field(init=False)
    second: Float32 = field(init=False)

    def __post_init__(self) -> None:
        self.first = np.zeros(self.count, np.float32)
        self.second = np.zeros(self.count, np.float32)
        self._scratch = np.empty(self.count, np.float32)

    def step(self, parameters: Float32, gradients: Float32) -> None:
        """Move the parameters ``[count]`` in place."""
        self.steps += 1
        beta1, beta2 = self.betas
        scratch = self._scratch
        self.first *= beta1
        np.multiply(gradients, 1.0 - beta1, out=scratch)
        self.first += scratch
        self.second *= beta2
        np.multiply(gradients, gradients, out=scratch)
        scratch *= 1.0 - beta2
        self.second += scratch
        np.sqrt(self.second, out=scratch)
        scratch *= 1.0 / math.sqrt(1.0 - beta2**self.steps)
        scratch += self.epsilon
        np.divide(self.first, scratch, out=scratch)
        scratch *= self.learning_rate / (1.0 - beta1**self.steps)
        parameters -= scratch
