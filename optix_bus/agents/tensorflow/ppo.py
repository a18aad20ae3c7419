"""PPO for discrete actions, and what it shares with PPO for continuous ones. The card is `PPO`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.ppo import PPO
from optix_bus.agents.experience import Experience
from optix_bus.agents.first_window import check_policy
from optix_bus.agents.heads import Categorical, Head, head_for
from optix_bus.agents.masked_acting import ProbableActing
from optix_bus.agents.policy_learner import PolicyLearner
from optix_bus.agents.tensorflow.base import TensorFlowLearner, trainable
from optix_bus.agents.tensorflow.networks import check_outputs, output_size, shape_of
from optix_bus.agents.tensorflow.ppo_update import GraphPPO
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec


class PPOLearner(PolicyLearner, TensorFlowLearner):
    """PPO with the clipped objective and GAE, for any head.

    Nothing is kept between acting and learning: a window learns alike whoever acted it. Where the window says
    that it was acted by this very version of the policy (``metadata["policy_version"]``), or holds no
    log-probabilities at all, the old log-probabilities are recomputed; otherwise the recorded ones count.

    Args:
        actor: a Keras model from observations ``[B, *obs_shape]`` float32 to the outputs of the head.
        critic: a Keras model from observations to values ``[B, 1]``.
        optimizer: of Keras, new; it moves the variables of both.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        reward_normalizer: scales rewards before advantages are computed.
        obs_normalizer: scales observations. It learns from each window after the networks did, so that a
            window is acted and learnt with the same statistics.
        seed: of acting, shuffling and perturbing; None takes it from TensorFlow's generator, so that
            ``tf.random.set_seed`` covers it.
        spaces: checked against the networks when given.
        head: what becomes of the actor's outputs; without one, the spaces say it, and without spaces they are
            logits of discrete actions.
    """

    def __init__(
        self,
        actor: Any,
        critic: Any,
        optimizer: Any,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        *,
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
        head: Head | None = None,
    ) -> None:
        self._actor = actor
        self._critic = critic
        self._optimizer = optimizer
        self._given_head = head_for(spaces.action) if head is None and spaces is not None else head
        self._update: GraphPPO | None = None
        super().__init__(hyperparams, obs_normalizer, reward_normalizer, seed, spaces)
        if spaces is not None:
            inputs, name = spaces.observation.shape, spaces.environment
            outputs = self._actions().outputs
            if outputs is not None:
                check_outputs("actor", actor, inputs, outputs, name)
            check_outputs("critic", critic, inputs, 1, name)
            self._known_shape = None if outputs is None else inputs

    @property
    def _models(self) -> Mapping[str, Any]:
        return {"actor": self._actor, "critic": self._critic}

    @property
    def _optimizers(self) -> Mapping[str, Any]:
        return {"optimizer": self._optimizer}

    def _trained_by(self, optimizer: str) -> Sequence[Any]:
        return trainable(self._actor, self._critic)

    def _actions(self) -> Head:
        return self._given_head or Categorical(output_size(self._actor))

    def _check_sizes(self, experience: Experience) -> None:
        actor, critic = (partial(shape_of, each) for each in (self._actor, self._critic))
        check_policy(experience, self._actions(), "actor", actor, critic)

    @property
    def traces(self) -> int:
        """How often the update was traced, see `GraphPPO`."""
        return 0 if self._update is None else self._update.traces

    def _way_to_update(self) -> GraphPPO:
        # Asked for each window: users freeze layers or replace networks in between.
        if self._update is None or not self._update.is_for(self._actor, self._critic, self._optimizer):
            self._update = GraphPPO(self._actor, self._critic, self._optimizer, self._actions())
        return self._update


class TFPPOAgent(ProbableActing, PPOLearner):
    """PPO for discrete actions, with your own Keras models; the arguments are those of `PPOLearner`.

    The actor gives logits: ``[B, n_actions]``, or with ``spaces`` that say so those of several choices side
    by side (MultiDiscrete), or one for each yes or no (MultiBinary). Actions that ``info["action_mask"]``
    forbids are never chosen and have no part in the update.
    """

    card: ClassVar[Card] = PPO
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(PPO.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(PPO.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = PPO.min_episodes_before_dormant
