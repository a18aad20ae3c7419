"""The update of deep Q-learning with its gradient derived by hand.

With ``e = Q(s, a) - y`` and the weight ``w`` of one row of ``n``:

    d loss / d Q(s, a) = w / n * clip(e, -1, 1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.fast.adam import FlatAdam
from optix_bus.agents.fast.mlp import FlatMLP, Float32
from optix_bus.agents.q_learning import Outcome
from optix_bus.rl import Transitions


class HandmadeDQN:
    """A network of action values and its target, each over one vector of parameters.

    Attributes:
        parameters: ``[count]``, of the network that learns.
        target: ``[count]``, of its target.
        gradients: ``[count]``, of the last gradient step, cut where that was called for.
    """

    def __init__(self, mlp: FlatMLP) -> None:
        self._mlp = mlp
        self.parameters: Float32 = np.zeros(mlp.count, np.float32)
        self.target: Float32 = np.zeros_like(self.parameters)
        self.gradients: Float32 = np.zeros_like(self.parameters)
        self._layers, self._target_layers, self._gradients = (
            mlp.split(flat) for flat in (self.parameters, self.target, self.gradients)
        )

    def update(
        self,
        x: Float32,
        following: Float32,
        batch: Transitions,
        steps: int,
        params: Mapping[str, Any],
        adam: FlatAdam,
    ) -> Outcome:
        """Gradient steps on equal shares of a batch; see `optix_bus.agents.q_learning.QUpdate.update`.

        Args:
            x: ``[in + 1, N]``, observations of the batch as `FlatMLP.forward` takes them.
            following: the same of its next observations.
            batch: all the rest.
            steps: gradient steps.
            params: hyperparameters of the card.
            adam: over ``parameters``.
        """
        rows = len(batch.actions)
        size = rows // steps
        errors = np.empty(rows, np.float32)
        numbers = np.empty((3, steps))
        index = np.arange(size)
        for step in range(steps):
            part = slice(step * size, (step + 1) * size)
            forbidden = None if batch.next_masks is None else ~batch.next_masks[part].T
            entering = np.ascontiguousarray(following[:, part])
            ahead = self._ahead(entering, index, params["double"], forbidden)
            ahead *= batch.discounts[part]
            ahead += batch.rewards[part]
            values = self._mlp.forward(self._layers, np.ascontiguousarray(x[:, part]))
            actions = batch.actions[part]
            taken = values[actions, index]
            found = errors[part]
            np.subtract(taken, ahead, out=found)
            near = np.clip(found, -1.0, 1.0)
            weighted = near * batch.weights[part]
            slopes = np.zeros_like(values)
            slopes[actions, index] = weighted / np.float32(size)
            self._mlp.backward(self._layers, self._gradients, slopes)
            norm = math.sqrt(float(np.dot(self.gradients, self.gradients)))
            if norm > params["max_grad_norm"]:
                self.gradients *= params["max_grad_norm"] / (norm + 1e-6)
            adam.step(self.parameters, self.gradients)
            # Huber: near * (e - near / 2) is e^2 / 2 inside and |e| - 1/2 outside.
            loss = float(np.dot(weighted, found - 0.5 * near)) / size
            numbers[:, step] = loss, float(taken.mean()), norm
        return Outcome(errors.astype(np.float64), *numbers)

    def _ahead(
        self,
        following: Float32,
        index: npt.NDArray[np.int64],
        double: bool,
        forbidden: npt.NDArray[np.bool_] | None,
    ) -> Float32:
        """What the target says ``[n]`` of the best next actions that are allowed, a fresh array."""
        layers = self._layers if double else self._target_layers
        choice = self._mlp.forward(layers, following)
        if forbidden is not None:
            choice[forbidden] = -np.inf
        if not double:
            return np.asarray(choice.max(axis=0))
        best = choice.argmax(axis=0)
        return np.asarray(self._mlp.forward(self._target_layers, following)[best, index])
