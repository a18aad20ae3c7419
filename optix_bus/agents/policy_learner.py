"""What agents that learn a policy from each window alone do alike, in whichever framework."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from optix_bus.agents.batch import PPOUpdate
from optix_bus.agents.first_window import HeldAgainstWindows
from optix_bus.agents.heads import Head
from optix_bus.agents.learner import Learner
from optix_bus.agents.ppo_learning import learn_window
from optix_bus.types import EpisodeData


class PolicyLearner(HeldAgainstWindows, Learner):
    """A `Learner` with a stochastic policy, to be named before the framework's own among the base classes."""

    @abstractmethod
    def _actions(self) -> Head:
        """What becomes of the actor's outputs."""

    @abstractmethod
    def _way_to_update(self) -> PPOUpdate:
        """How the networks are updated. Asked for each window: users may change networks in between."""

    def _head(self) -> Mapping[str, Any]:
        return self._actions().description()

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """One update from a window ``[T]`` or ``[T, B]``.

        Returns:
            policy_loss, value_loss, entropy, loss and grad_norm as means over the last epoch; of PPO also
            approx_kl and clip_fraction, and initial_kl and initial_ratio_error of the first minibatch;
            updates, samples, explained_variance (of the values; 0 where the targets do not vary) and
            steps_without_successor.

        Raises:
            LearningFailure: something was not finite; weights, moments and statistics are as before.
            ConfigurationError: the window has no usable shape.
            Unsuitable: it holds actions or observations that the networks are not made for, or they give
                another number of outputs than the actions need.
        """
        report = learn_window(
            episode_data,
            self._way_to_update(),
            self._hyperparams.params,
            self._learning_rng,
            obs_normalizer=self._obs_normalizer,
            reward_normalizer=self._reward_normalizer,
            policy_version=self.policy_version,
            head=self._actions(),
            check=self._check_window,
        )
        self._weights_changed(self.policy_version + 1)
        return report
