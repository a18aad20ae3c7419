"""The handmade update of deep Q-learning for networks of PyTorch: weights go over once a window and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from optix_bus.agents.fast.adam import FlatAdam
from optix_bus.agents.fast.dqn import HandmadeDQN
from optix_bus.agents.fast.mlp import Float32, with_ones
from optix_bus.agents.q_learning import Outcome
from optix_bus.agents.torch.flat import FlatNetwork
from optix_bus.agents.torch.networks import OneHot
from optix_bus.rl import Transitions


class FastDQN:
    """`optix_bus.agents.q_learning.QUpdate` by hand, for what `why_not_by_hand` passes.

    Modules and optimizer are not touched before `finish`.

    Args:
        network: learns.
        target: of the same shape.
        optimizer: over the parameters of the network.
    """

    def __init__(self, network: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._network, self._target = FlatNetwork(network), FlatNetwork(target)
        self._optimizer = optimizer
        self._one_hot = next((layer.n for layer in network.modules() if isinstance(layer, OneHot)), 0)
        self._mind = HandmadeDQN(self._network.mlp)
        self._adam = FlatAdam(len(self._mind.parameters))
        self._fetched = False

    def remember(self) -> Callable[[], None]:
        """Fetch weights and moments. There is nothing to restore while they have not come back."""
        self._network.fetch(self._mind.parameters)
        self._target.fetch(self._mind.target)
        self._network.fetch_moments(self._optimizer, self._adam)
        self._fetched = True
        return self._forget

    def update(self, batch: Transitions, steps: int, params: Mapping[str, Any]) -> Outcome:
        """See `optix_bus.agents.q_learning.QUpdate.update`."""
        x, following = (self._columns(each) for each in (batch.observations, batch.next_observations))
        with np.errstate(all="ignore"):  # what is not finite is found in the outcome
            return self._mind.update(x, following, batch, steps, params, self._adam)

    def synchronise(self) -> None:
        """Give the target the weights of the network."""
        self._mind.target[:] = self._mind.parameters

    def is_finite(self) -> bool:
        """Whether all weights are."""
        return bool(np.isfinite(self._mind.parameters).all())

    def finish(self) -> None:
        """Bring weights and moments back, if they were fetched."""
        if not self._fetched:
            return
        self._network.bring_back(self._mind.parameters)
        self._target.bring_back(self._mind.target)
        self._network.bring_back_moments(self._optimizer, self._adam)

    def _forget(self) -> None:
        self._fetched = False

    def _columns(self, observations: np.ndarray[Any, Any]) -> Float32:
        rows = observations.reshape(len(observations), -1)
        if self._one_hot:
            return with_ones(np.eye(self._one_hot, dtype=np.float32)[rows[:, 0].astype(np.int64)])
        return with_ones(rows)
