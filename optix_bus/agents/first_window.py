"""Networks are held against windows: those of one's own say how much they put out when they first run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optix_bus.agents.experience import Experience
from optix_bus.agents.heads import Categorical, Head
from optix_bus.errors import Unsuitable

#: Observations ``[2, *obs_shape]`` to the shape of what a network puts out.
Shape = Callable[[np.ndarray[Any, Any]], Sequence[int]]


class HeldAgainstWindows(ABC):
    """An agent that looks at a window before it learns from it."""

    #: Shape of the observations that the networks are known to take; None before the first window.
    _known_shape: tuple[int, ...] | None = None

    @abstractmethod
    def _check_sizes(self, experience: Experience) -> None:
        """Raise `Unsuitable` where the networks do not take the window, or give something else."""

    def _check_window(self, experience: Experience) -> None:
        """Look at a window, if its observations have another shape than those before.

        Raises:
            Unsuitable: the networks do not fit.
        """
        shape = tuple(experience.observations.shape[2:])
        if shape == self._known_shape:
            return
        try:
            self._check_sizes(experience)
        except Unsuitable as error:
            if self._known_shape is None:
                raise
            raise Unsuitable(
                f"found observations of shape {list(shape)} in the window, expected "
                f"{list(self._known_shape)}, which the networks take: {error}"
            ) from error
        self._known_shape = shape


def check_policy(experience: Experience, head: Head, name: str, actor: Shape, values: Shape) -> None:
    """Raise unless an actor's outputs suit the head and the actions, and values are one number each.

    Args:
        experience: the window.
        head: what becomes of the outputs.
        name: of the actor, for errors.
        actor: of its outputs.
        values: of what values there are, ``[2, 1]`` or ``[2]``; an empty shape where there are none.

    Raises:
        Unsuitable: a network does not take the observations, or gives something else.
    """
    wanted = [] if head.outputs is None else [[2, head.outputs]]
    found = check_shape(experience, name, actor, *wanted)
    if isinstance(head, Categorical) and head.n is None:
        # Says itself what is wrong where the actions are others.
        Categorical(found[-1]).read(experience.actions[experience.valid].reshape(-1, 1))
    check_shape(experience, "critic", values, [2, 1], [2], [])


def check_shape(experience: Experience, name: str, run: Shape, *expected: list[int]) -> list[int]:
    """The shape that a network gives for two observations.

    Args:
        experience: the window.
        name: of the network, for errors.
        run: the network.
        expected: shapes that will do, the usual one first; none takes ``[2, n]`` of any n.

    Raises:
        Unsuitable: the network does not take the observations, or gives something else.
    """
    shape = experience.observations.shape[2:]
    try:
        found = [int(size) for size in run(np.zeros((2, *shape), np.float32))]
    except Exception as error:  # whatever a user's network raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unsuitable(f"the {name} does not take observations of shape {list(shape)}: {reason}") from error
    fits = found in expected if expected else len(found) == 2 and found[0] == 2
    if not fits:
        wanted = expected[0] if expected else "[2, n]"
        raise Unsuitable(f"the {name} gives {found} for 2 observations of the window, expected {wanted}")
    return found
