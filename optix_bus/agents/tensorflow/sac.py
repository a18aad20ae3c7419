"""SAC for bounded continuous actions. The card is `optix_bus.agents.cards.sac`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from optix_bus.agents.cards.sac import SAC
from optix_bus.agents.tensorflow.adam import apply_gradients
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.critics import beside
from optix_bus.agents.tensorflow.networks import read
from optix_bus.agents.tensorflow.off_policy import Minibatch, OffPolicyLearner, Step, gradients_of
from optix_bus.agents.tensorflow.target import follow
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet

_LOG_2 = math.log(2.0)
_LOG_2PI = math.log(2.0 * math.pi)


class TFSACAgent(OffPolicyLearner):
    """Soft actor-critic with twin critics and a temperature that is learnt, for your own Keras models.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to ``[mean | log_std]``, ``[B, 2 action_dim]``.
        critic1: ``[observation | action]`` ``[B, obs + action_dim]`` to ``[B, 1]``; the actions that it sees
            are in ``[-1, 1]``, whatever the units of the environment. Where observations are no vectors it
            is called with a list of two, ``[B, *obs_shape]`` and ``[B, action_dim]``.
        critic2: as ``critic1``, with weights of its own.
        action_dim: numbers in an action.
        actor_optimizer: of Keras, new; the learning rate in force is its own by default.
        critic_optimizer: another one, for both critics.
        alpha_optimizer: another one, for the logarithm of the temperature.
        hyperparams: what differs from the card's defaults.
        spaces: the environment or its `SpaceSpec`: networks are checked against it, and actions scaled to its
            bounds. Without it they are in ``[-1, 1]`` until a pipeline shows its environment.
        obs_normalizer: scales observations. It learns from each window after the networks did.
        seed: of acting, learning and perturbing; None takes it from TensorFlow's generator.
        replay_path: folder for a replay in mapped files; without one it is in memory while it fits.

    Raises:
        Unsuitable: the networks do not fit the spaces, or the spaces not the algorithm.
        ConfigurationError: a network has no weights yet, or an optimizer is in use elsewhere.
    """

    card = SAC
    LOG_STD_MIN: ClassVar[float] = -5.0
    LOG_STD_MAX: ClassVar[float] = 2.0
    STATISTICS = ("critic_loss", "actor_loss", "alpha_loss", "alpha", "entropy", "q_mean")
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(SAC.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(SAC.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = SAC.min_episodes_before_dormant

    def __init__(
        self,
        actor: Any,
        critic1: Any,
        critic2: Any,
        action_dim: int,
        actor_optimizer: Any,
        critic_optimizer: Any,
        alpha_optimizer: Any,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        *,
        spaces: Any = None,
        obs_normalizer: ObsNormalizer | None = None,
        seed: int | None = None,
        replay_path: str | None = None,
    ) -> None:
        self._log_alpha = keras.Variable(0.0, dtype="float32", name="log_alpha")
        self._actor_optimizer = actor_optimizer
        self._critic_optimizer = critic_optimizer
        self._alpha_optimizer = alpha_optimizer
        super().__init__(
            actor,
            (critic1, critic2),
            action_dim,
            2 * action_dim,
            hyperparams,
            obs_normalizer,
            seed,
            spaces,
            replay_path,
        )
        self._log_alpha.assign(self._hyperparams.params["log_alpha_init"])

    @property
    def _optimizers(self) -> Mapping[str, Any]:
        return {
            "actor_optimizer": self._actor_optimizer,
            "critic_optimizer": self._critic_optimizer,
            "alpha_optimizer": self._alpha_optimizer,
        }

    @property
    def _loose(self) -> Mapping[str, Any]:
        return {"temperature.log_alpha": self._log_alpha}

    def _trained_by(self, optimizer: str) -> Sequence[Any]:
        return [self._log_alpha] if optimizer == "alpha_optimizer" else super()._trained_by(optimizer)

    def _head(self) -> Mapping[str, Any]:
        return {
            "head": "squashed_gaussian",
            **self._box.description(),
            "log_std": [self.LOG_STD_MIN, self.LOG_STD_MAX],
            "random": self._memory.explores_at_random(self._hyperparams.params),
        }

    @property
    def temperature(self) -> float:
        """The weight of the entropy, alpha."""
        return math.exp(float(read(self._log_alpha)))

    def _numbers(self, params: Mapping[str, Any]) -> dict[str, float]:
        target = params["target_entropy"]
        return {"tau": params["tau"], "target_entropy": -float(self._box.dim) if target is None else target}

    def _gradient_step(self, batch: Minibatch, params: Mapping[str, Any], number: Any) -> Step:
        alpha = tf.exp(tf.convert_to_tensor(self._log_alpha))
        critic_variables, actor_variables = self._critic_variables, trainable(self._actor)
        with tf.GradientTape() as tape:
            critic_loss, q, errors = self._critic_loss(batch, alpha)
        gradients, critic_norm = gradients_of(tape, critic_loss, critic_variables)
        apply_gradients(self._critic_optimizer, gradients, critic_variables)

        with tf.GradientTape() as tape:
            actor_loss, log_probs = self._actor_loss(batch, alpha)
        gradients, actor_norm = gradients_of(tape, actor_loss, actor_variables)
        apply_gradients(self._actor_optimizer, gradients, actor_variables)

        # The gradient of -log_alpha (log pi + target entropy), by hand.
        surplus = tf.reduce_mean(log_probs) + params["target_entropy"]
        apply_gradients(self._alpha_optimizer, [-surplus], [self._log_alpha])
        follow(self._followed, params["tau"])
        statistics = {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "alpha_loss": -(tf.convert_to_tensor(self._log_alpha) * surplus),
            "alpha": alpha,
            "entropy": -tf.reduce_mean(log_probs),
            "q_mean": tf.reduce_mean(q),
        }
        return Step(
            {name: (value, 1.0) for name, value in statistics.items()}, errors, (critic_norm, actor_norm)
        )

    def _critic_loss(self, batch: Minibatch, alpha: Any) -> tuple[Any, Any, Any]:
        """Equation 5 over both critics; also Q of the first and the mean errors, ``[B]`` each."""
        following = batch.next_observations
        next_actions, next_log_probs = self._sampled(self._actor(following, training=True), batch.noise[0])
        x = beside(following, next_actions)
        value = tf.squeeze(tf.minimum(*(target(x, training=False) for target in self._targets)), -1)
        goal = tf.stop_gradient(batch.rewards + batch.discounts * (value - alpha * next_log_probs))
        x = beside(batch.observations, batch.actions)
        q1, q2 = (tf.squeeze(critic(x, training=True), -1) for critic in (self._critic1, self._critic2))
        first, second = q1 - goal, q2 - goal
        loss = 0.5 * tf.reduce_mean(batch.weights * (first * first + second * second))
        return loss, q1, 0.5 * (tf.abs(first) + tf.abs(second))

    def _actor_loss(self, batch: Minibatch, alpha: Any) -> tuple[Any, Any]:
        """Equation 9 with the lesser of both critics, and log-probabilities ``[B]``."""
        actions, log_probs = self._sampled(self._actor(batch.observations, training=True), batch.noise[1])
        x = beside(batch.observations, actions)
        q = tf.minimum(*(critic(x, training=True) for critic in (self._critic1, self._critic2)))
        return tf.reduce_mean(alpha * log_probs - tf.squeeze(q, -1)), log_probs

    def _sampled(self, outputs: Any, noise: Any) -> tuple[Any, Any]:
        """Actions ``[B, dim]`` and their log-densities ``[B]`` on the cube."""
        return squashed_sample(outputs, noise, self._box.dim, self.LOG_STD_MIN, self.LOG_STD_MAX)


def squashed_sample(
    outputs: Any, noise: Any, dim: int, log_std_min: float, log_std_max: float
) -> tuple[Any, Any]:
    """``tanh(mean + std noise)`` ``[B, dim]`` and its log-density ``[B]`` on ``[-1, 1]^dim``.

    As in `optix_bus.agents.acting.squashed_gaussian`: finite for every u, and so are the gradients.

    Args:
        outputs: ``[mean | log_std]``, ``[B, 2 dim]``.
        noise: standard normal, ``[B, dim]``.
        dim: numbers in an action.
        log_std_min: lower bound of the logarithm of the standard deviation.
        log_std_max: its upper bound.
    """
    mean, log_std = outputs[:, :dim], tf.clip_by_value(outputs[:, dim:], log_std_min, log_std_max)
    u = mean + tf.exp(log_std) * noise
    terms = 2.0 * (u + tf.math.softplus(-2.0 * u)) - log_std - 0.5 * (noise * noise)
    return tf.tanh(u), tf.reduce_sum(terms, -1) - dim * (2.0 * _LOG_2 + 0.5 * _LOG_2PI)
