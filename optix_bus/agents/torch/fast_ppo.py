"""The handmade PPO update for PyTorch networks: weights and moments go over, and back if all went well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optix_bus.agents.batch import Batch, Float32
from optix_bus.agents.fast.adam import FlatAdam
from optix_bus.agents.fast.heads import handmade
from optix_bus.agents.fast.mlp import with_ones
from optix_bus.agents.fast.ppo import HandmadePPO
from optix_bus.agents.heads import Categorical, Head
from optix_bus.agents.torch.flat import flat_mlp, places, why_not_by_hand
from optix_bus.agents.torch.networks import OneHot

# Rows of one forward pass outside the update.
_CHUNK = 4096
_CATEGORICAL = Categorical()


def why_not_fast(
    actor: nn.Module,
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    head: Head = _CATEGORICAL,
) -> str:
    """What stands against the handmade update; empty where nothing does."""
    if handmade(head) is None:
        return f"it has no gradient of the head {head.description()['head']}"
    return why_not_by_hand({"actor": actor, "critic": critic}, optimizer, device)


class FastPPO:
    """`optix_bus.agents.batch.PPOUpdate` by hand, for networks and optimizers that `why_not_fast` passes."""

    takes_masks = True

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: torch.optim.Optimizer,
        head: Head = _CATEGORICAL,
    ) -> None:
        self._optimizer = optimizer
        #: Each parameter and where in its layer it lies, in the order of the flat vector.
        self._places = [place for module in (actor, critic) for place in places(module)]
        self._one_hot = next((layer.n for layer in actor.modules() if isinstance(layer, OneHot)), 0)
        by_hand = handmade(head)
        assert by_hand is not None
        self._minds = HandmadePPO(flat_mlp(actor), flat_mlp(critic), by_hand)
        self._adam = FlatAdam(len(self._minds.parameters))

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``."""
        self._fetch()
        parts = [self._minds.values(self._columns(part)) for part in _chunks(observations)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def log_probs(
        self, observations: Float32, actions: npt.NDArray[Any], masks: npt.NDArray[np.bool_] | None = None
    ) -> Float32:
        """Log-probabilities ``[N]`` of actions ``[N, ...]`` among those that masks ``[N, entries]`` allow."""
        self._fetch()
        parts = [_chunks(each) for each in (observations, actions, masks) if each is not None]
        rows = zip(*parts, strict=True)
        return np.concatenate([self._minds.log_probs(self._columns(x), *rest) for x, *rest in rows])

    def update(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        """All epochs of one window; see `optix_bus.agents.batch.PPOUpdate.update`."""
        self._fetch()
        self._fetch_moments()
        with np.errstate(all="ignore"):  # what is not finite is found in the report
            report = self._minds.update(self._columns(batch.observations), batch, params, self._adam, rng)
        if (
            all(math.isfinite(value) for value in report.values())
            and np.isfinite(self._minds.parameters).all()
        ):
            self._bring_back()
        else:
            report["loss"] = math.nan
        return report

    def _columns(self, observations: Float32) -> Float32:
        rows = observations.reshape(len(observations), -1)
        if self._one_hot:
            return with_ones(np.eye(self._one_hot, dtype=np.float32)[rows[:, 0].astype(np.int64)])
        return with_ones(rows)

    def _fetch(self) -> None:
        for parameter, own in self._views(self._minds.parameters):
            own[...] = parameter.detach().numpy()

    def _fetch_moments(self) -> None:
        group, state = self._optimizer.param_groups[0], self._optimizer.state
        adam = self._adam
        adam.learning_rate, adam.epsilon = float(group["lr"]), float(group["eps"])
        adam.betas = (float(group["betas"][0]), float(group["betas"][1]))
        adam.steps = 0
        for flat, name in ((adam.first, "exp_avg"), (adam.second, "exp_avg_sq")):
            flat[:] = 0.0
            for parameter, own in self._views(flat):
                if state.get(parameter):
                    own[...] = state[parameter][name].numpy()
                    adam.steps = int(state[parameter]["step"])

    def _bring_back(self) -> None:
        adam = self._adam
        found = (self._views(flat) for flat in (self._minds.parameters, adam.first, adam.second))
        for (parameter, own), (_, first), (_, second) in zip(*found, strict=True):
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(own))
            state = self._optimizer.state[parameter]
            state["step"] = torch.tensor(float(adam.steps))
            state["exp_avg"] = torch.from_numpy(first.copy())
            state["exp_avg_sq"] = torch.from_numpy(second.copy())

    def _views(self, flat: Float32) -> list[tuple[torch.Tensor, Float32]]:
        """Each parameter with its part of a flat vector."""
        cut = self._minds.actor.count
        layers = [*self._minds.actor.split(flat[:cut]), *self._minds.critic.split(flat[cut:])]
        return [
            (parameter, layer[place])
            for layer, places in zip(layers, self._places, strict=True)
            for parameter, place in places
        ]


def _chunks(array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK)]
