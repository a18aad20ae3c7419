"""The PPO update in JAX: a window is cut into steps of one shape here, and learnt in `ppo_program`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import optax  # type: ignore[import-untyped]
from flax import linen as nn

from optix_bus.agents.batch import STATISTICS, Batch, Float32
from optix_bus.agents.heads import Categorical, Head
from optix_bus.agents.jax.networks import Weights
from optix_bus.agents.jax.ppo_loss import Rows, Terms
from optix_bus.agents.jax.ppo_program import Account, Networks, Programs, Step, programs

Array = np.ndarray[Any, Any]

# Rows of one forward pass outside the update: bounds the memory that a long window of images takes.
_CHUNK = 16384
# Windows of fewer rows share one program.
_FEWEST = 64
_CHOICE = Categorical()


class JaxPPO:
    """`optix_bus.agents.batch.PPOUpdate` in JAX; keeps weights and moments between windows.

    Args:
        networks: actor and critic.
        weights: of both, by these names.
        optimizer: directions from gradients, without a learning rate.
        device: where weights and moments live, and so where everything is computed.
        head: what becomes of the actor's outputs.
    """

    takes_masks = True

    def __init__(
        self,
        networks: Networks,
        weights: Mapping[str, Weights],
        optimizer: optax.GradientTransformation,
        device: Any,
        head: Head = _CHOICE,
    ) -> None:
        self._device = device
        self._optimizer = optimizer
        self.modules: dict[str, nn.Module] = {"actor": networks.actor, "critic": networks.critic}
        self.programs: Programs = programs(networks, optimizer, head)
        self._minibatches: dict[int, int] = {}
        #: Goes up whenever weights are others.
        self.changes = 0
        self.replace(weights, None)

    def replace(self, weights: Mapping[str, Weights], moments: Any | None) -> None:
        """Go on from these; without moments the optimizer starts anew."""
        self.weights = jax.device_put(dict(weights), self._device)
        if moments is None:
            moments = self._optimizer.init(self.weights)
        self.moments = jax.device_put(moments, self._device)
        self.changes += 1

    def move(self, device: Any) -> None:
        """Compute there from now on."""
        self._device = device
        self.replace(self.weights, self.moments)

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``."""
        parts = [
            self.programs.values(self.weights["critic"], _filled(x))[: len(x)] for x in _cut(observations)
        ]
        return (
            np.concatenate([np.asarray(p, np.float32) for p in parts]) if parts else np.zeros(0, np.float32)
        )

    def log_probs(
        self, observations: Float32, actions: npt.NDArray[Any], masks: npt.NDArray[np.bool_] | None = None
    ) -> Float32:
        """Log-probabilities ``[N]`` of actions ``[N, ...]`` among those that masks ``[N, entries]`` allow."""
        actor, parts = self.weights["actor"], []
        for start in range(0, len(observations), _CHUNK):
            rows = slice(start, start + _CHUNK)
            allowed = None if masks is None else _filled(masks[rows])
            x, chosen = _filled(observations[rows]), _filled(_narrow(actions[rows]))
            found = self.programs.log_probs(actor, x, chosen, allowed)
            parts.append(np.asarray(found, np.float32)[: len(observations[rows])])
        return np.concatenate(parts)

    def outputs(self, observations: Float32, weights: Weights | None = None) -> Float32:
        """What the actor puts out for ``[N, *obs_shape]``, ``[N, out]``, with other weights than its own."""
        actor = self.weights["actor"] if weights is None else weights
        parts = [self.programs.outputs(actor, _filled(x))[: len(x)] for x in _cut(observations)]
        return np.concatenate([np.asarray(part, np.float32) for part in parts])

    def update(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        """All epochs of one window; see `optix_bus.agents.batch.PPOUpdate.update`."""
        rows, size, epochs = len(batch.actions), params["minibatch_size"], params["n_epochs"]
        minibatches = self._capacity(rows, size)
        steps = make_steps(rows, size, epochs, minibatches, rng, exact=batch.on_policy)
        room = minibatches * size
        data = Rows(
            observations=_filled(batch.observations, room),
            actions=_filled(_narrow(batch.actions), room),
            log_probs=_filled(batch.log_probs, room),
            advantages=_filled(batch.advantages, room),
            returns=_filled(batch.returns, room),
            values=_filled(batch.values, room),
            masks=None if batch.masks is None else _filled(batch.masks, room),
        )
        names = ["clip_ratio", "vf_coef", "entropy_coef", "learning_rate", "max_grad_norm"]
        names += [name for name in ("clip_value", "target_kl") if params[name] is not None]
        weights, moments, account, finite = self.programs.update(
            self.weights,
            self.moments,
            data,
            steps,
            {name: np.float32(params[name]) for name in names},
            terms=Terms(params["normalize_advantage"], params["clip_value"] is not None),
            may_stop=params["target_kl"] is not None,
        )
        report = summarized(Account(*map(np.asarray, account)), epochs)
        if bool(finite) and all(math.isfinite(value) for value in report.values()):
            self.weights, self.moments = weights, moments
            self.changes += 1
        else:
            report["loss"] = math.nan
        return report

    def _capacity(self, rows: int, size: int) -> int:
        """Minibatches that the program has room for: windows that differ a little in length share one."""
        needed = _round_up(-(-rows // size))
        had = self._minibatches.get(size, 0)
        # Room that is not needed is skipped, so the largest window so far sets it, unless it was very large.
        if not needed <= had <= 2 * needed:
            self._minibatches[size] = needed
        return self._minibatches[size]


def make_steps(
    rows: int, size: int, epochs: int, minibatches: int, rng: np.random.Generator, *, exact: bool
) -> Step:
    """Every row once in each epoch, in an order drawn anew for each; ``[epochs * minibatches]`` steps.

    Args:
        rows: of the batch.
        size: of a minibatch; the last one of an epoch may have fewer rows that count.
        epochs: passes over the batch.
        minibatches: of an epoch, at least as many as the rows fill; those beyond are skipped.
        rng: draws one permutation an epoch.
        exact: the first minibatch is learnt by the networks that acted it.
    """
    order = np.zeros((epochs, minibatches * size), np.int32)
    for epoch in order:
        epoch[:rows] = rng.permutation(rows)
    mask = np.zeros((epochs, minibatches * size), np.float32)
    mask[:, :rows] = 1.0
    first = np.zeros(epochs * minibatches, bool)
    first[0] = exact
    return Step(order.reshape(-1, size), mask.reshape(-1, size), first)


def summarized(account: Account, epochs: int) -> dict[str, float]:
    """The report of `optix_bus.agents.batch.PPOUpdate.update` from what happened in each step."""
    seen, stepped = (np.reshape(each, (epochs, -1)) for each in (account.seen, account.stepped))
    last = int(np.flatnonzero(seen.any(axis=1))[-1])
    statistics = account.statistics.reshape(epochs, -1, len(STATISTICS))[last][seen[last]].mean(axis=0)
    norms = account.norm.reshape(epochs, -1)[last][stepped[last]]
    return {
        **dict(zip(STATISTICS, map(float, statistics), strict=True)),
        "initial_kl": float(account.statistics[0, 3]),
        "initial_ratio_error": float(account.ratio_error[0]),
        "grad_norm": float(norms.mean()) if len(norms) else 0.0,
        "updates": float(stepped.sum()),
    }


def _cut(array: Array) -> list[Array]:
    return [array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK)]


def _narrow(actions: Array) -> Array:
    """Whole numbers as JAX has them."""
    return actions.astype(np.int32) if actions.dtype.kind == "i" else actions


def _filled(array: Array, rows: int = 0) -> Array:
    """With zeros behind, up to this many rows or to the next length that has a program."""
    rows = rows or max(_FEWEST, _round_up(len(array)))
    if len(array) == rows:
        return array
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def _round_up(count: int) -> int:
    """The next of four lengths between a power of two and the next, at most a quarter more."""
    step = max(1, 1 << max(0, (count - 1).bit_length() - 3))
    return -(-count // step) * step
