"""A whole PPO update - epochs, minibatches, clipping, Adam - as one compiled program.

The order of the rows is drawn outside, so that the same seed gives PyTorch and JAX the same minibatches.
Every number that a tuner moves while training is an argument: only other shapes, or another kind of loss,
compile anew.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]
from flax import linen as nn

from optix_bus.agents.heads import Head
from optix_bus.agents.jax.distributions import evaluate
from optix_bus.agents.jax.networks import Weights, apply, describe, layer_sizes
from optix_bus.agents.jax.ppo_loss import Rows, Terms, ppo_loss


class Step(NamedTuple):
    """One minibatch, or in the program ``[S]`` of them.

    Attributes:
        rows: ``[size]`` int32, positions in the batch.
        mask: ``[size]`` float32, 0 where a position only fills the shape; all 0 skips the step.
        exact: see `optix_bus.agents.jax.ppo_loss.ppo_loss`.
    """

    rows: Any
    mask: Any
    exact: Any


class Account(NamedTuple):
    """What happened in each step, ``[S]`` in front.

    Attributes:
        statistics: ``[S, 6]``, `optix_bus.agents.batch.STATISTICS`.
        ratio_error: the largest ``|ratio - 1|``.
        norm: of the gradient before it was cut.
        seen: the loss was computed.
        stepped: the weights were moved.
    """

    statistics: Any
    ratio_error: Any
    norm: Any
    seen: Any
    stepped: Any


@dataclass(frozen=True)
class Networks:
    """An actor and a critic; two pairs of the same layers are equal, so that they share their programs."""

    actor: nn.Module = field(compare=False)
    critic: nn.Module = field(compare=False)
    key: object

    @classmethod
    def of(cls, actor: nn.Module, critic: nn.Module) -> Networks:
        """A pair; what cannot be described equals only itself."""
        pair = (actor, critic)
        layers = [describe(module, "") for module in pair]
        if None in layers:
            return cls(actor, critic, object())
        return cls(actor, critic, json.dumps([layers, [layer_sizes(module) for module in pair]]))


class Programs:
    """The compiled functions of a pair of networks, shared by all agents that have such a pair.

    Attributes:
        compilations: how often each was compiled, by name.
    """

    def __init__(self, networks: Networks, optimizer: optax.GradientTransformation, head: Head) -> None:
        self._head = head
        self._networks = networks
        self._optimizer = optimizer
        self.compilations = {"values": 0, "log_probs": 0, "outputs": 0, "update": 0}
        self.values = jax.jit(self._values)
        self.log_probs = jax.jit(self._log_probs)
        self.outputs = jax.jit(self._outputs)
        self.update = jax.jit(self._update, static_argnames=("terms", "may_stop"))

    def _values(self, critic: Weights, observations: jax.Array) -> jax.Array:
        self.compilations["values"] += 1
        return apply(self._networks.critic, critic, observations).reshape(-1)

    def _log_probs(
        self, actor: Weights, observations: jax.Array, actions: jax.Array, masks: jax.Array | None
    ) -> jax.Array:
        self.compilations["log_probs"] += 1
        outputs = apply(self._networks.actor, actor, observations)
        return evaluate(self._head, outputs, actions, masks)[0]

    def _outputs(self, actor: Weights, observations: jax.Array) -> jax.Array:
        self.compilations["outputs"] += 1
        return apply(self._networks.actor, actor, observations)

    def _update(
        self,
        weights: Mapping[str, Weights],
        moments: Any,
        batch: Rows,
        steps: Step,
        numbers: Mapping[str, Any],
        *,
        terms: Terms,
        may_stop: bool,
    ) -> tuple[Any, Any, Account, jax.Array]:
        """Weights and moments after all steps, the account, and whether all weights are finite.

        ``numbers`` are those of the loss, ``learning_rate``, ``max_grad_norm`` and, with ``may_stop``,
        ``target_kl``.
        """
        self.compilations["update"] += 1

        def step(carry: Any, each: Step) -> tuple[Any, Account]:
            weights, moments, far = carry
            rows = jax.tree.map(lambda column: column[each.rows], batch)
            (_, (statistics, error)), gradients = jax.value_and_grad(
                lambda w: ppo_loss(
                    self._networks.actor,
                    self._networks.critic,
                    w,
                    rows,
                    each.mask,
                    numbers,
                    terms,
                    each.exact,
                    self._head,
                ),
                has_aux=True,
            )(weights)
            norm = jnp.sqrt(sum((g * g).sum() for g in jax.tree.leaves(gradients)))
            scale = jnp.minimum(1.0, numbers["max_grad_norm"] / (norm + 1e-6))
            gradients = jax.tree.map(lambda g: g * scale, gradients)
            direction, after = self._optimizer.update(gradients, moments, weights)
            moved = jax.tree.map(lambda w, d: w - numbers["learning_rate"] * d, weights, direction)
            if may_stop:
                far = statistics[3] > 1.5 * numbers["target_kl"]
                moved, after = jax.tree.map(
                    lambda new, old: jnp.where(far, old, new), (moved, after), (weights, moments)
                )
            return (moved, after, far), Account(statistics, error, norm, jnp.array(True), ~far)

        def skip(carry: Any, each: Step) -> tuple[Any, Account]:
            nothing = jnp.zeros((), jnp.float32)
            no = jnp.array(False)
            return carry, Account(jnp.zeros(6, jnp.float32), nothing, nothing, no, no)

        def one(carry: Any, each: Step) -> tuple[Any, Account]:
            is_due = (each.mask[0] > 0.0) & ~carry[2]
            after: tuple[Any, Account] = jax.lax.cond(is_due, step, skip, carry, each)
            return after

        (weights, moments, _), account = jax.lax.scan(one, (weights, moments, jnp.array(False)), steps)
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)]).all()
        return weights, moments, account, finite


@functools.lru_cache(maxsize=64)
def programs(networks: Networks, optimizer: optax.GradientTransformation, head: Any) -> Programs:
    """The programs of these networks with this optimizer and head, compiled when they are first used."""
    return Programs(networks, optimizer, head)
