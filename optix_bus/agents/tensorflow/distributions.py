"""Log-probabilities and entropies of the heads of `optix_bus.agents.heads`, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from optix_bus.agents.heads import FORBIDDEN, Bernoulli, Categorical, Gaussian, Head, MultiCategorical

_LOG_2PI = math.log(2.0 * math.pi)


def evaluate(head: Head, outputs: Any, actions: Any, masks: Any = None) -> tuple[Any, Any]:
    """Log-probabilities ``[n]`` of actions, and entropies ``[n]`` of the policy.

    Args:
        head: the kind of policy.
        outputs: of the actor, ``[n, outputs]``.
        actions: as `Head.read` gives them, ``[n, ...]``.
        masks: ``[n, outputs]`` bool; what is False has probability 0 and no gradient.
    """
    if masks is not None:
        outputs = tf.where(masks, outputs, tf.cast(FORBIDDEN, outputs.dtype))
    return _HOW[type(head)](head, outputs, actions)


def _categorical(head: Categorical, logits: Any, actions: Any) -> tuple[Any, Any]:
    log_all = tf.nn.log_softmax(logits)
    entropy = -tf.reduce_sum(tf.exp(log_all) * log_all, axis=-1)
    chosen = tf.one_hot(actions, tf.shape(logits)[-1], dtype=logits.dtype)
    # A sum with one term: its gradient is cheaper than that of a gather.
    return tf.reduce_sum(log_all * chosen, axis=-1), entropy


def _multi_categorical(head: MultiCategorical, logits: Any, actions: Any) -> tuple[Any, Any]:
    parts = tf.split(logits, list(head.nvec), axis=1)
    found = [_categorical(Categorical(), part, actions[:, k]) for k, part in enumerate(parts)]
    log_probs, entropies = zip(*found, strict=True)
    return tf.add_n(log_probs), tf.add_n(entropies)


def _bernoulli(head: Bernoulli, logits: Any, actions: Any) -> tuple[Any, Any]:
    yes, no = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
    p, taken = tf.sigmoid(logits), tf.cast(actions, logits.dtype)
    log_probs = taken * yes + (1.0 - taken) * no
    return tf.reduce_sum(log_probs, -1), -tf.reduce_sum(p * yes + (1.0 - p) * no, -1)


def _gaussian(head: Gaussian, outputs: Any, actions: Any) -> tuple[Any, Any]:
    mean = outputs[:, : head.dim] * head.reach + head.centre
    log_std = outputs[:, head.dim :] + tf.math.log(tf.constant(head.reach))
    z = (tf.cast(actions, mean.dtype) - mean) * tf.exp(-log_std)
    log_probs = -tf.reduce_sum(0.5 * z * z + log_std, axis=-1) - 0.5 * head.dim * _LOG_2PI
    return log_probs, tf.reduce_sum(log_std, axis=-1) + 0.5 * head.dim * (1.0 + _LOG_2PI)


_HOW: dict[type, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    Bernoulli: _bernoulli,
    Categorical: _categorical,
    Gaussian: _gaussian,
    MultiCategorical: _multi_categorical,
}
