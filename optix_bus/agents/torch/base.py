"""What every agent in PyTorch does alike, beyond `optix_bus.agents.learner`."""

from __future__ import annotations

import gc
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from optix_bus.agents.learner import Learner
from optix_bus.agents.torch.acting import TorchActing
from optix_bus.agents.torch.parts import TrainedParts
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet


class TorchLearner(Learner):
    """A `Learner` around named modules and optimizers; `learn` is left to the algorithm.

    A subclass sets ``card`` and answers `_modules`, `_optimizers`, `_actor_name` and, where it is not
    categorical, `_head`. After its own attributes are in place it calls `__init__`.

    Args:
        hyperparams: what differs from the card's defaults; the learning rate is by default that of the first
            optimizer.
        device: where the modules live already.
        obs_normalizer: scales observations of acting.
        reward_normalizer: kept and moved with the state.
        seed: of acting, learning and perturbing; None takes it from torch's generator.
    """

    _acting: TorchActing

    def __init__(
        self,
        hyperparams: HyperparamSet | Mapping[str, Any] | None,
        device: torch.device,
        obs_normalizer: ObsNormalizer | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        seed: int | None = None,
    ) -> None:
        self._device = device
        self._rates = {
            name: [float(group["lr"]) for group in optimizer.param_groups]
            for name, optimizer in self._optimizers.items()
        }
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        super().__init__(hyperparams, obs_normalizer, reward_normalizer, seed)

    @property
    @abstractmethod
    def _modules(self) -> Mapping[str, nn.Module]:
        """Everything with weights, by the name that its arrays carry."""

    @property
    @abstractmethod
    def _optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizers, by the name that their arrays carry."""

    @property
    def _parts(self) -> TrainedParts:
        return TrainedParts(self._modules, self._optimizers, self._statistics)

    def _make_acting(self, rng: np.random.Generator) -> TorchActing:
        name = self._actor_name
        return TorchActing(self._modules[name], self._obs_normalizer, self._device, rng, self._head, name)

    def reset_cache(self) -> None:
        """Look at the networks again before the next action.

        Needed only after replacing layers or networks, and after changes through ``parameter.data`` on a GPU;
        all other changes of weights are noticed.
        """
        self._acting.forget(self._modules[self._actor_name], self._device)

    def teardown(self) -> None:
        """Give device memory back. The agent can still act afterwards, on the CPU."""
        if self._device.type == "cpu":
            return
        for module in self._modules.values():
            module.cpu()
        for optimizer in self._optimizers.values():
            optimizer.state.clear()
        self._device = torch.device("cpu")
        self.reset_cache()
        gc.collect()
        torch.cuda.empty_cache()

    def _first_rate(self) -> float:
        return next(iter(self._rates.values()))[0]

    def _apply_learning_rate(self) -> None:
        # Optimizers and groups keep the proportions that the user gave them.
        rate, first = self._hyperparams.params["learning_rate"], self._first_rate()
        for name, optimizer in self._optimizers.items():
            for group, own in zip(optimizer.param_groups, self._rates[name], strict=True):
                value = rate * own / first if first > 0.0 else rate
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(value)
                else:
                    group["lr"] = value
