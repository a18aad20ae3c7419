"""The PPO loss of one minibatch in JAX; rows may be masked, so that every minibatch has the same shape.

Schulman et al. 2017, https://arxiv.org/abs/1707.06347, equations 7 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from optix_bus.agents.heads import Categorical, Head
from optix_bus.agents.jax.distributions import evaluate
from optix_bus.agents.jax.networks import Weights, apply

_CHOICE = Categorical()


class Rows(NamedTuple):
    """Rows of an `optix_bus.agents.batch.Batch`, ``[n, ...]``; no masks allow all."""

    observations: Any
    actions: Any
    log_probs: Any
    advantages: Any
    returns: Any
    values: Any
    masks: Any = None


class Terms(NamedTuple):
    """Which terms the loss has; they are part of the program, not numbers given to it."""

    normalize_advantage: bool
    clip_value: bool


def ppo_loss(
    actor: nn.Module,
    critic: nn.Module,
    weights: Mapping[str, Weights],
    rows: Rows,
    mask: jax.Array,
    numbers: Mapping[str, Any],
    terms: Terms,
    exact: jax.Array | bool = False,
    head: Head = _CHOICE,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Loss, and with it the `optix_bus.agents.batch.STATISTICS` ``[6]`` and the largest ``|ratio - 1|``.

    Args:
        actor: gives the outputs of the head.
        critic: gives values.
        weights: of both, by these names.
        rows: the minibatch.
        mask: ``[n]``, 1 where a row counts and 0 where it only fills the shape.
        numbers: ``clip_ratio``, ``vf_coef``, ``entropy_coef`` and, where it is a term, ``clip_value``.
        terms: what belongs to the loss.
        exact: the networks are still the ones that acted; the ratio is then exactly 1.
        head: what becomes of the actor's outputs.
    """
    count = mask.sum()

    def mean(x: jax.Array) -> jax.Array:
        return (x * mask).sum() / count

    outputs = apply(actor, weights["actor"], rows.observations)
    log_probs, entropies = evaluate(head, outputs, rows.actions, rows.masks)
    values = apply(critic, weights["critic"], rows.observations).reshape(-1)
    old = jnp.where(exact, jax.lax.stop_gradient(log_probs), rows.log_probs)
    advantages = _normalized(rows.advantages, mask) if terms.normalize_advantage else rows.advantages
    log_ratio = log_probs - old
    ratio = jnp.exp(log_ratio)
    clip = numbers["clip_ratio"]
    limited = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    policy_loss = -mean(jnp.minimum(ratio * advantages, limited * advantages))

    errors = (values - rows.returns) ** 2
    if terms.clip_value:
        moved = jnp.clip(values - rows.values, -numbers["clip_value"], numbers["clip_value"])
        errors = jnp.maximum(errors, (rows.values + moved - rows.returns) ** 2)
    value_loss = mean(errors)
    entropy = mean(entropies)
    loss = policy_loss + numbers["vf_coef"] * value_loss - numbers["entropy_coef"] * entropy
    # Schulman 2020, http://joschu.net/blog/kl-approx.html, the estimator k3.
    kl = mean(ratio - 1.0 - log_ratio)
    away = jnp.abs(ratio - 1.0)
    clipped = mean((away > clip).astype(loss.dtype))
    statistics = jnp.stack([policy_loss, value_loss, entropy, kl, clipped, loss])
    return loss, jax.lax.stop_gradient((statistics, (away * mask).max()))


def _normalized(advantages: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean 0 and variance 1 over the rows that count; a single row stays as it is."""
    count = mask.sum()
    centred = (advantages - (advantages * mask).sum() / count) * mask
    deviation = jnp.sqrt((centred * centred).sum() / jnp.maximum(count - 1.0, 1.0))
    return jnp.where(count > 1.0, centred / (deviation + 1e-8), advantages)
