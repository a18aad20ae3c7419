"""A replay that is filled step by step, for scripts of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.errors import ConfigurationError
from optix_bus.rl.n_step import Steps
from optix_bus.rl.replay import EPSILON, ReplayBuffer, Transitions

Array = np.ndarray[Any, Any]


class PrioritizedReplayBuffer:
    """`ReplayBuffer` for one environment, one `push` a step.

    Shapes and dtypes are those of the first step. Agents of the library hold a `ReplayBuffer` of their own.

    Args:
        capacity: transitions.
        alpha: how much priorities count: 0 is uniform, 1 proportional.
        beta: how much weights correct for what is drawn too often; 1 entirely.
        n_step: steps of a transition.
        gamma: discount.
        eps: added to each |error| that becomes a priority.
        beta_steps: batches over which beta rises linearly to 1; without it beta stays.
        path: folder of mapped files instead of memory.
        seed: of the draws.
    """

    def __init__(
        self,
        capacity: int,
        alpha: float = 0.0,
        beta: float = 0.4,
        n_step: int = 1,
        gamma: float = 0.99,
        eps: float = EPSILON,
        *,
        beta_steps: int | None = None,
        path: str | None = None,
        seed: int | None = None,
    ) -> None:
        self._settings = {"n_step": n_step, "gamma": gamma, "alpha": alpha, "path": path, "epsilon": eps}
        # Numbers out of range are found now and not with the first step.
        ReplayBuffer(1, ((), np.float32), ((), np.float32), n_step, gamma, alpha)
        if capacity < 1:
            raise ConfigurationError(f"capacity of a replay is {capacity}, expected at least 1")
        self._capacity = capacity
        self._beta = beta
        self._beta_steps = beta_steps
        self._sampled = 0
        self._rng = np.random.default_rng(seed)
        self._replay: ReplayBuffer | None = None

    def __len__(self) -> int:
        return 0 if self._replay is None else len(self._replay)

    @property
    def beta(self) -> float:
        """Beta of the next batch."""
        if self._beta_steps is None:
            return self._beta
        return self._beta + (1.0 - self._beta) * min(1.0, self._sampled / self._beta_steps)

    def push(
        self, obs: npt.ArrayLike, action: npt.ArrayLike, reward: float, next_obs: npt.ArrayLike, done: bool
    ) -> None:
        """One step. ``done`` says that the episode was terminated: its value is then 0 beyond this step.

        After a truncation call `flush_episode` instead, which keeps the value of ``next_obs``.
        """
        observation, chosen = _stored(obs), _stored(action)
        if self._replay is None:
            self._replay = ReplayBuffer(
                self._capacity,
                (observation.shape, observation.dtype),
                (chosen.shape, chosen.dtype),
                **self._settings,  # type: ignore[arg-type]
            )
        self._replay.add_steps(
            Steps(
                observations=observation[None, None],
                actions=chosen[None, None],
                rewards=np.array([[reward]], np.float32),
                next_observations=np.asarray(next_obs, observation.dtype)[None, None],
                terminated=np.array([[bool(done)]]),
                goes_on=np.array([[not done]]),
                waiting=np.ones((1, 1), bool),
            )
        )

    def flush_episode(self) -> None:
        """The episode ends here without being terminated: what waits for its later steps waits no longer."""
        if self._replay is not None:
            self._replay.flush()

    def sample(
        self, batch_size: int
    ) -> tuple[Array, Array, Array, Array, Array, Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Observations, actions, rewards, next observations, dones, weights, indices and steps of a batch.

        The value of ``next observations`` counts ``gamma ** steps * (1 - dones)``.

        Raises:
            ConfigurationError: nothing was pushed yet.
        """
        found = self.transitions(batch_size)
        return (
            found.observations,
            found.actions,
            found.rewards,
            found.next_observations,
            found.terminated.astype(np.float32),
            found.weights,
            found.indices,
            found.steps,
        )

    def transitions(self, batch_size: int) -> Transitions:
        """The same by name, with discounts.

        Raises:
            ConfigurationError: nothing was pushed yet.
        """
        if self._replay is None:
            raise ConfigurationError("the replay is empty: nothing to sample; push a step first")
        found = self._replay.sample(batch_size, self._rng, self.beta)
        self._sampled += 1
        return found

    def update_priorities(self, indices: npt.ArrayLike, td_errors: npt.ArrayLike) -> None:
        """Priorities ``|error| + eps`` for sampled transitions."""
        if self._replay is not None:
            self._replay.update_priorities(indices, td_errors)

    def set_params(
        self,
        alpha: float | None = None,
        beta: float | None = None,
        n_step: int | None = None,
        gamma: float | None = None,
    ) -> None:
        """Change what is given; the content stays.

        A new alpha or gamma holds for all that is stored. A new n holds for later transitions; where it is
        smaller, longer ones are left out.
        """
        self._beta = self._beta if beta is None else beta
        given = {"alpha": alpha, "n_step": n_step, "gamma": gamma}
        self._settings.update({name: value for name, value in given.items() if value is not None})
        if self._replay is None:
            return
        if n_step is not None and n_step != self._replay.n_step:
            self._replay = self._replay.resized(self._capacity, n_step)
        if alpha is not None:
            self._replay.alpha = alpha
        if gamma is not None:
            self._replay.gamma = gamma


def _stored(value: npt.ArrayLike) -> Array:
    """Floats in single precision: that is what networks learn from."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array
