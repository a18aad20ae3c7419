"""Deep Q-learning in TensorFlow, with the network and optimizer of your choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from optix_bus.agents.cards.dqn import DQN
from optix_bus.agents.epsilon import Epsilon
from optix_bus.agents.experience import Experience
from optix_bus.agents.first_window import HeldAgainstWindows, check_shape
from optix_bus.agents.masked_acting import MaskedActing
from optix_bus.agents.q_learning import learn_values
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.dqn_update import GraphDQN
from optix_bus.agents.tensorflow.networks import check_built, check_outputs, output_size, shape_of
from optix_bus.agents.tensorflow.replay_learner import TensorFlowReplayLearner
from optix_bus.agents.tensorflow.target import take_over, target_of
from optix_bus.errors import Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.types import EpisodeData, HyperparamSet, SpaceSpec


class TFDQNAgent(HeldAgainstWindows, MaskedActing, TensorFlowReplayLearner):
    """Values of discrete actions from a replay; double, with priorities and n-step returns where asked for.

    Epsilon, learning and the takeover by the target network follow the steps of the environment and the
    gradient steps: how experience is cut into windows changes none of them.

    Args:
        q_network: a Keras model from observations ``[B, *obs_shape]`` float32 to ``[B, n_actions]``.
        n_actions: how many actions there are.
        optimizer: of Keras, new; it moves its variables.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        obs_normalizer: scales observations; it learns from each window after the network did.
        seed: of acting and drawing; None takes it from TensorFlow's generator.
        spaces: checked against the network when given.
        replay_path: folder for the files of a mapped replay, see `optix_bus.rl.ReplayBuffer`.

    Raises:
        Unsuitable: the network does not fit ``spaces`` or ``n_actions``.
        ConfigurationError: a hyperparameter is unknown or out of range.
    """

    card = DQN
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(DQN.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(DQN.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = DQN.min_episodes_before_dormant

    def __init__(
        self,
        q_network: Any,
        n_actions: int,
        optimizer: Any,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        *,
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
        replay_path: str | None = None,
    ) -> None:
        check_built("q_network", q_network, spaces)
        _check(q_network, n_actions, spaces)
        self._known_shape = None if spaces is None else spaces.observation.shape
        self._epsilon = Epsilon()
        self._n_actions = int(n_actions)
        self._q_network = q_network
        self._target_network = target_of("q_network", q_network)
        self._optimizer = optimizer
        self._update: GraphDQN | None = None
        super().__init__(hyperparams, obs_normalizer, seed, replay_path)

    @property
    def _models(self) -> Mapping[str, Any]:
        return {"q_network": self._q_network, "target_network": self._target_network}

    @property
    def _optimizers(self) -> Mapping[str, Any]:
        return {"optimizer": self._optimizer}

    @property
    def _actor_name(self) -> str:
        return "q_network"

    def _trained_by(self, optimizer: str) -> Sequence[Any]:
        return trainable(self._q_network)

    def _head(self) -> Mapping[str, Any]:
        return self._epsilon.head(self._memory.environment_steps, self._hyperparams.params)

    @property
    def epsilon(self) -> float:
        """Probability of a random action in the next step."""
        return self._epsilon.now(self._memory.environment_steps, self._hyperparams.params)

    @property
    def traces(self) -> int:
        """How often the update was traced, see `GraphDQN`."""
        return 0 if self._update is None else self._update.traces

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Store a window ``[T]`` or ``[T, B]`` and make the gradient steps that its steps call for.

        Returns:
            See `optix_bus.agents.q_learning.learn_values`; ``epsilon`` too.

        Raises:
            LearningFailure: something was not finite; everything is as before.
            ConfigurationError: the window has no usable shape.
            Unsuitable: it holds actions that there are not.
        """
        report = learn_values(
            episode_data,
            self._way_to_update(),
            self._memory,
            self._hyperparams.params,
            self._learning_rng,
            self._n_actions,
            self._obs_normalizer,
            self._check_window,
        )
        self._weights_changed(self.policy_version + 1)
        return {**report, "epsilon": self.epsilon}

    def _check_sizes(self, experience: Experience) -> None:
        check_shape(experience, "q_network", partial(shape_of, self._q_network), [2, self._n_actions])

    def set_hyperparams(self, hyperparams: HyperparamSet | Mapping[str, Any]) -> None:
        """Put the given hyperparameters into force; a new ``epsilon`` falls from this step on."""
        before = self._hyperparams.params["epsilon"]
        super().set_hyperparams(hyperparams)
        if self._hyperparams.params["epsilon"] != before:
            self._epsilon.since = self._memory.environment_steps

    def perturb_weights(self, noise_scale: float) -> None:
        """Multiply every weight by ``1 + noise_scale * N(0, 1)``; the target takes over the result."""
        super().perturb_weights(noise_scale)
        take_over(self._q_network, self._target_network)

    def _way_to_update(self) -> GraphDQN:
        # Asked for each window: users freeze layers or replace the network in between.
        parts = (self._q_network, self._target_network, self._optimizer)
        if self._update is None or not self._update.is_for(*parts):
            self._update = GraphDQN(*parts)
        return self._update

    def _counters(self) -> dict[str, Any]:
        return {**super()._counters(), "epsilon_since": self._epsilon.since}

    def _load_counters(self, metadata: Mapping[str, Any]) -> None:
        super()._load_counters(metadata)
        self._epsilon.since = int(metadata.get("epsilon_since", 0))


def _check(network: Any, n_actions: int, spaces: SpaceSpec | None) -> None:
    """Raise `Unsuitable` unless the network has a value for each action, as far as that can be known."""
    found = output_size(network)
    if found is not None and found != n_actions:
        raise Unsuitable(f"the q_network has {found} outputs, expected {n_actions}, one for each action")
    if spaces is None:
        return
    if spaces.action.kind != "discrete" or spaces.action.n != n_actions:
        raise Unsuitable(
            f"{spaces.environment} has {spaces.action.n or ''} {spaces.action.kind} actions, "
            f"but n_actions is {n_actions}"
        )
    check_outputs("q_network", network, spaces.observation.shape, n_actions, spaces.environment)
