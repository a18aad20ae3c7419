"""Environments side by side behind one interface, and the plain list of them.

Rows write into arrays of the caller, so that a window is filled without a copy in between. What happens at
the end of an episode differs, and is said by ``Ending``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal, Protocol

import numpy as np

from optix_bus.pipelines.environments import name_of, step_limit
from optix_bus.pipelines.flattening import flat_space, flattener
from optix_bus.pipelines.infos import side_by_side
from optix_bus.pipelines.masks import ActionMasks

Array = np.ndarray[Any, Any]
Info = dict[str, Any]
#: rows whose episode ended, their last observations where the array already holds the next one, info
Stepped = tuple[list[int], dict[int, Any], Info | None]
#: each: every episode has its own seed; reset: only those that begin with a reset of all environments;
#: first: one seed for all environments together.
Seeding = Literal["each", "reset", "first"]


class Ending(Enum):
    """What follows the last step of an episode."""

    MANUAL = "the row waits until it is reset"
    NEXT_STEP = "the next step ignores its action and returns the first observation of a new episode"
    SAME_STEP = "the same step already returns the first observation of a new episode"


class StepFailure(Exception):
    """An environment raised; ``__cause__`` is what. ``index`` is None where nobody can tell which one."""

    def __init__(self, index: int | None, phase: str) -> None:
        super().__init__(phase)
        self.index = index
        self.phase = phase


class Stepper(Protocol):
    """``B`` environments that are stepped together; spaces are those of one of them."""

    n: int
    name: str
    step_limit: int | None
    observation_space: Any
    action_space: Any
    ending: Ending
    seeding: Seeding
    #: True where every step moves all rows, also those that nobody asked for.
    steps_all: bool
    #: What the environments allow next, as `reset` and `step` have left it.
    masks: ActionMasks

    def reset(self, rows: Sequence[int], seeds: Sequence[int], observations: Array) -> None:
        """Begin an episode in these rows, with one seed each, and write its first observation."""
        ...

    def step(
        self,
        actions: Array,
        observations: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        rows: Sequence[int],
    ) -> Stepped:
        """One step of these rows. ``terminated`` and ``truncated`` come in as False."""
        ...

    def close(self, failed: bool) -> None:
        """Close what belongs to the stepper; ``failed`` after a `StepFailure`."""
        ...


class ListStepper:
    """Environments stepped one after the other in this process.

    Faster than `gymnasium.vector.SyncVectorEnv`, which copies each batch of observations twice, and able to
    step some rows only.
    """

    ending = Ending.MANUAL
    seeding: Seeding = "each"
    steps_all = False

    def __init__(self, environments: Sequence[Any], *, owned: bool) -> None:
        first = environments[0]
        self.n = len(environments)
        self.name = name_of(first)
        self.step_limit = step_limit(first)
        self.observation_space = flat_space(first.observation_space, self.name)
        self._flat = flattener(first.observation_space)
        self.action_space = first.action_space
        self.masks = ActionMasks(first.action_space, self.n)
        self._environments = list(environments)
        self._owned = owned
        self._steps = [environment.step for environment in environments]
        # Many environments of one choice expect a Python integer, as `Discrete` promises.
        self._plain = np.dtype(getattr(first.action_space, "dtype", None)).kind in "iu" and (
            first.action_space.shape == ()
        )

    def reset(self, rows: Sequence[int], seeds: Sequence[int], observations: Array) -> None:
        """Reset these environments with their seeds."""
        for row, seed in zip(rows, seeds, strict=True):
            try:
                begun, info = self._environments[row].reset(seed=seed)
                observation = self._flat(begun)
                if np.shape(observation) != observations.shape[1:]:
                    raise ValueError(
                        f"reset gave an observation of shape {np.shape(observation)}, but the observation "
                        f"space says {observations.shape[1:]}"
                    )
                observations[row] = observation
                self.masks.note(row, info or {})
            except Exception as error:
                raise StepFailure(row, "reset") from error

    def step(
        self,
        actions: Array,
        observations: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        rows: Sequence[int],
    ) -> Stepped:
        """Step these environments in order."""
        steps, masks, flat = self._steps, self.masks, self._flat
        chosen = actions.tolist() if self._plain else actions
        ended: list[int] = []
        infos: dict[int, Info] = {}
        row = -1
        try:
            for row in rows:
                observation, reward, done, cut, info = steps[row](chosen[row])
                observations[row] = flat(observation)
                rewards[row] = reward
                if done or cut:
                    terminated[row] = done
                    truncated[row] = cut
                    ended.append(row)
                if info:
                    infos[row] = info
                if info or masks.now is not None:
                    masks.note(row, info or {})
        except Exception as error:
            raise StepFailure(row, "step") from error
        if not infos:
            return ended, {}, None
        return ended, {}, side_by_side(infos, self.n)

    def close(self, failed: bool) -> None:
        """Close the environments if they were built for this stepper."""
        if self._owned:
            for environment in self._environments:
                environment.close()
