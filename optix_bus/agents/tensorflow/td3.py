"""TD3 for bounded continuous actions. The card is `optix_bus.agents.cards.td3`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from optix_bus.agents.cards.td3 import TD3
from optix_bus.agents.tensorflow.adam import apply_gradients
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.critics import beside
from optix_bus.agents.tensorflow.networks import check_built
from optix_bus.agents.tensorflow.off_policy import Minibatch, OffPolicyLearner, Step, gradients_of
from optix_bus.agents.tensorflow.target import follow, target_of
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet


class TFTDDAgent(OffPolicyLearner):
    """Twin delayed deep deterministic policy gradients, for your own Keras models.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to ``[B, action_dim]``. A tanh is taken of its
            outputs, unless its last layer is one.
        critic1: ``[observation | action]`` ``[B, obs + action_dim]`` to ``[B, 1]``; the actions that it sees
            are in ``[-1, 1]``, whatever the units of the environment. Where observations are no vectors it
            is called with a list of two, ``[B, *obs_shape]`` and ``[B, action_dim]``. The actor learns from
            this one.
        critic2: as ``critic1``, with weights of its own.
        action_dim: numbers in an action.
        actor_optimizer: of Keras, new; the learning rate in force is its own by default.
        critic_optimizer: another one, for both critics.
        hyperparams: what differs from the card's defaults.
        spaces: the environment or its `SpaceSpec`: networks are checked against it, and actions scaled to its
            bounds. Without it they are in ``[-1, 1]`` until a pipeline shows its environment.
        obs_normalizer: scales observations. It learns from each window after the networks did.
        seed: of acting, learning and perturbing; None takes it from TensorFlow's generator.
        replay_path: folder for a replay in mapped files; without one it is in memory while it fits.
        squash: whether a tanh is taken of the actor's outputs; None looks at its last layer.

    Raises:
        Unsuitable: the networks do not fit the spaces, or the spaces not the algorithm.
        ConfigurationError: a network has no weights yet, or an optimizer is in use elsewhere.
    """

    card = TD3
    STATISTICS = ("critic_loss", "q_mean", "actor_loss")
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(TD3.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(TD3.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = TD3.min_episodes_before_dormant

    def __init__(
        self,
        actor: Any,
        critic1: Any,
        critic2: Any,
        action_dim: int,
        actor_optimizer: Any,
        critic_optimizer: Any,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        *,
        spaces: Any = None,
        obs_normalizer: ObsNormalizer | None = None,
        seed: int | None = None,
        replay_path: str | None = None,
        squash: bool | None = None,
    ) -> None:
        check_built("actor", actor, None)
        self._actor_optimizer = actor_optimizer
        self._critic_optimizer = critic_optimizer
        self._target_actor = target_of("actor", actor)
        self._squash = not _ends_in_tanh(actor) if squash is None else squash
        super().__init__(
            actor,
            (critic1, critic2),
            action_dim,
            action_dim,
            hyperparams,
            obs_normalizer,
            seed,
            spaces,
            replay_path,
        )

    @property
    def _models(self) -> Mapping[str, Any]:
        return {**super()._models, "target_actor": self._target_actor}

    @property
    def _optimizers(self) -> Mapping[str, Any]:
        return {"actor_optimizer": self._actor_optimizer, "critic_optimizer": self._critic_optimizer}

    @property
    def _followed(self) -> Sequence[tuple[Any, Any]]:
        return [*super()._followed, (self._actor, self._target_actor)]

    def _head(self) -> Mapping[str, Any]:
        return {
            "head": "deterministic",
            **self._box.description(),
            "noise": self._hyperparams.params["exploration_noise"],
            "squash": self._squash,
            "random": self._memory.explores_at_random(self._hyperparams.params),
        }

    def _numbers(self, params: Mapping[str, Any]) -> dict[str, float]:
        return {name: params[name] for name in ("tau", "policy_delay", "target_noise", "target_noise_clip")}

    def _gradient_step(self, batch: Minibatch, params: Mapping[str, Any], number: Any) -> Step:
        critic_variables, actor_variables = self._critic_variables, trainable(self._actor)
        with tf.GradientTape() as tape:
            critic_loss, q, errors = self._critic_loss(batch, params)
        gradients, critic_norm = gradients_of(tape, critic_loss, critic_variables)
        apply_gradients(self._critic_optimizer, gradients, critic_variables)

        def move() -> Any:
            with tf.GradientTape() as tape:
                loss = self._actor_loss(batch)
            gradients, norm = gradients_of(tape, loss, actor_variables)
            apply_gradients(self._actor_optimizer, gradients, actor_variables)
            follow(self._followed, params["tau"])
            return tf.stack([loss, norm])

        # Counted over all gradient steps: a window of one step must not delay the actor for ever.
        due = tf.equal((number + 1) % tf.cast(params["policy_delay"], tf.int32), 0)
        actor_loss, actor_norm = tf.unstack(tf.cond(due, move, lambda: tf.constant([0.0, -1.0])))
        statistics = {
            "critic_loss": (critic_loss, 1.0),
            "q_mean": (tf.reduce_mean(q), 1.0),
            "actor_loss": (actor_loss, due),
        }
        return Step(statistics, errors, (critic_norm, actor_norm))

    def _critic_loss(self, batch: Minibatch, params: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Equations 9 and 14 over both critics; also Q of the first and the mean errors, ``[B]`` each."""
        following, clip = batch.next_observations, params["target_noise_clip"]
        # Actions are in [-1, 1]: a share of half the range of each, for each transition anew.
        noise = tf.clip_by_value(batch.noise[0] * params["target_noise"], -clip, clip)
        next_actions = self._acted(self._target_actor, following, training=False) + noise
        x = beside(following, tf.clip_by_value(next_actions, -1.0, 1.0))
        value = tf.squeeze(tf.minimum(*(target(x, training=False) for target in self._targets)), -1)
        goal = tf.stop_gradient(batch.rewards + batch.discounts * value)
        x = beside(batch.observations, batch.actions)
        q1, q2 = (tf.squeeze(critic(x, training=True), -1) for critic in (self._critic1, self._critic2))
        first, second = q1 - goal, q2 - goal
        loss = tf.reduce_mean(batch.weights * (first * first + second * second))
        return loss, q1, 0.5 * (tf.abs(first) + tf.abs(second))

    def _actor_loss(self, batch: Minibatch) -> Any:
        """What the first critic says of the actor's actions, with the sign that goes down."""
        actions = self._acted(self._actor, batch.observations, training=True)
        return -tf.reduce_mean(self._critic1(beside(batch.observations, actions), training=True))

    def _acted(self, actor: Any, observations: Any, *, training: bool) -> Any:
        outputs = actor(observations, training=training)
        return tf.tanh(outputs) if self._squash else outputs


TFTD3Agent = TFTDDAgent


def _ends_in_tanh(model: Any) -> bool:
    layers = getattr(model, "layers", [])
    if layers:
        return _ends_in_tanh(layers[-1])
    return getattr(model, "activation", None) is keras.activations.tanh
