"""What off-policy agents for bounded actions do alike in all frameworks: windows in, gradient steps out."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from optix_bus.agents.action_box import ActionBox
from optix_bus.agents.experience import Experience, read_experience
from optix_bus.agents.first_window import HeldAgainstWindows
from optix_bus.agents.replay_learner import ReplayLearner
from optix_bus.agents.spaces import space_spec
from optix_bus.errors import LearningFailure, Unsuitable
from optix_bus.types import EpisodeData, NamedArrays

Array = np.ndarray[Any, Any]


class BoundedReplayLearner(HeldAgainstWindows, ReplayLearner):
    """A `ReplayLearner` for actions in a box, which its networks and its replay see in ``[-1, 1]``.

    ``_box`` and ``_bounds_known`` are in place before `Learner.__init__` is called.
    """

    _box: ActionBox
    _bounds_known: bool

    @abstractmethod
    def _check(self, observation_shape: tuple[int, ...], where: str) -> None:
        """Raise `Unsuitable` unless the networks take observations of this shape."""

    def _check_sizes(self, experience: Experience) -> None:
        self._check(tuple(experience.observations.shape[2:]), "the window")

    @abstractmethod
    def _gradient_steps(self, due: int, params: Mapping[str, Any]) -> dict[str, float]:
        """As many gradient steps; what they found."""

    @abstractmethod
    def _remember(self) -> Callable[[], None]:
        """Remember weights and moments; the function that comes back restores them."""

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Store a window ``[T]`` or ``[T, B]``, and make the gradient steps that are due.

        Returns:
            The algorithm's statistics as means over these steps; grad_norm of the last one; updates, samples,
            replay_size, environment_steps, gradient_steps and steps_without_successor.

        Raises:
            LearningFailure: something was not finite; weights, moments, clocks and replay are as before.
            ConfigurationError: the window has no usable shape.
            Unsuitable: it holds actions or observations that the networks are not made for.
        """
        experience = self._scaled(read_experience(episode_data))
        self._check_window(experience)
        params = self._hyperparams.params
        due, undo = self._memory.take(experience, params)
        report: dict[str, float] = {}
        if due:
            restore = self._remember()
            report = self._gradient_steps(due, params)
            if not all(math.isfinite(value) for value in report.values()):
                restore()
                undo()
                raise _failure(self.card.algorithm, episode_data.episode_id, experience, report)
        if self._obs_normalizer is not None:
            self._obs_normalizer.update(experience.observations[experience.valid])
        self._weights_changed(self.policy_version + 1)
        memory = self._memory
        return {
            **report,
            "updates": float(due),
            "samples": float(experience.valid.sum()),
            "replay_size": float(0 if memory.replay is None else len(memory.replay)),
            **{name: float(value) for name, value in memory.clocks().items()},
            "steps_without_successor": float(experience.without_successor),
        }

    def adopt_spaces(self, environment: Any) -> None:
        """Take the bounds of actions from an environment, where none were given and nothing was learnt yet.

        Pipelines call it before the first action of an agent, so that one that was built without ``spaces``
        acts in the units of its environment all the same.

        Args:
            environment: anything with ``observation_space`` and ``action_space``, or a `SpaceSpec`.
        """
        if self._bounds_known or self._memory.replay is not None:
            return
        action = space_spec(environment).action
        if action.kind == "box" and action.low and math.prod(action.shape) == self._box.dim:
            self._box = ActionBox.of(action)
            self._bounds_known = True

    def load_state(self, state: NamedArrays) -> None:
        """As `ReplayLearner.load_state`; bounds that were not known yet are those of the state."""
        super().load_state(state)
        description = state.metadata.get("policy", {})
        if not self._bounds_known and description.get("shape") == list(self._box.shape):
            # Whatever units the replay was collected in.
            self._box = ActionBox.from_description(description)
            self._bounds_known = self._box != ActionBox.cube(self._box.dim)

    def _scaled(self, experience: Experience) -> Experience:
        """The same with actions ``[T, B, dim]`` in ``[-1, 1]``."""
        if experience.action_masks is not None:
            raise Unsuitable(
                f"found action masks in the window, but {self.card.algorithm} has real numbers for actions: "
                "nothing of them can be forbidden; leave action_masks out of the window"
            )
        rows = experience.valid.reshape(-1)
        given = experience.actions.reshape(len(rows), -1)
        unit = np.zeros((len(rows), self._box.dim), np.float32)
        unit[rows] = self._box.to_unit(given[rows])
        return replace(experience, actions=unit.reshape(*experience.valid.shape, self._box.dim))

    def _normalized(self, observations: Array) -> Array:
        return observations if self._obs_normalizer is None else self._obs_normalizer.normalize(observations)


def _failure(
    algorithm: str, window: int, experience: Experience, report: Mapping[str, float]
) -> LearningFailure:
    ranges = {
        "rewards": experience.rewards[experience.valid],
        "observations": experience.observations[experience.valid],
        "actions": experience.actions[experience.valid],
    }
    found = ", ".join(f"{name} {array.min():.4g} to {array.max():.4g}" for name, array in ranges.items())
    bad = ", ".join(f"{name} {value}" for name, value in report.items() if not math.isfinite(value))
    return LearningFailure(
        f"window {window}: the {algorithm} update is not finite ({bad}); weights and replay are as before. "
        f"The window holds {found}. Try a lower learning_rate, or normalise observations and rewards"
    )
