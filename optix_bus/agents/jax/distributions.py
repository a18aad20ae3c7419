"""Log-probabilities and entropies of the heads of `optix_bus.agents.heads` that choose, differentiable."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix_bus.agents.heads import FORBIDDEN, Bernoulli, Categorical, Head, MultiCategorical


def evaluate(
    head: Head, outputs: jax.Array, actions: jax.Array, masks: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities ``[n]`` of actions, and entropies ``[n]`` of the policy.

    Args:
        head: the kind of policy.
        outputs: of the actor, ``[n, outputs]``.
        actions: as `Head.read` gives them, ``[n, ...]``.
        masks: ``[n, outputs]`` bool; what is False has probability 0 and its logit no gradient.
    """
    if masks is not None:
        outputs = jnp.where(masks, outputs, FORBIDDEN)
    return HOW[type(head)](head, outputs, actions)


def _categorical(head: Head, logits: jax.Array, actions: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_all = jax.nn.log_softmax(logits, axis=-1)
    # A sum over a mask: the gradient of a lookup is a scatter, which is slow on every device.
    chosen = actions[:, None] == jnp.arange(log_all.shape[-1])
    return jnp.where(chosen, log_all, 0.0).sum(-1), -(jnp.exp(log_all) * log_all).sum(-1)


def _multi_categorical(
    head: MultiCategorical, logits: jax.Array, actions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    parts = jnp.split(logits, np.cumsum(head.nvec)[:-1], axis=1)
    found = [_categorical(head, part, actions[:, k]) for k, part in enumerate(parts)]
    log_probs, entropies = zip(*found, strict=True)
    return functools.reduce(jnp.add, log_probs), functools.reduce(jnp.add, entropies)


def _bernoulli(head: Bernoulli, logits: jax.Array, actions: jax.Array) -> tuple[jax.Array, jax.Array]:
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    p = jax.nn.sigmoid(logits)
    return (actions * yes + (1.0 - actions) * no).sum(-1), -(p * yes + (1.0 - p) * no).sum(-1)


#: The heads that there are here.
HOW: dict[type, Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]] = {
    Bernoulli: _bernoulli,
    Categorical: _categorical,
    MultiCategorical: _multi_categorical,
}
