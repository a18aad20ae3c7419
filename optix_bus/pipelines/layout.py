"""How observations and actions of a space are stored, and the gate that actions pass on their way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from optix_bus.errors import LearningFailure, Unsuitable

Array = np.ndarray[Any, Any]

_FITS = "Box, Discrete, MultiDiscrete or MultiBinary"


@dataclass(frozen=True)
class Layout:
    """Shape and dtype of one item of a space."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_float(self) -> bool:
        """Whether an item can be NaN or infinite."""
        return self.dtype.kind == "f"


def layout_of(space: Any, what: str, environment: str) -> Layout:
    """The layout of a Gymnasium space.

    Raises:
        Unsuitable: an item of the space is no single array; the message names wrappers that make it one.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return Layout((), np.dtype(np.int64))
    if isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        assert space.dtype is not None
        return Layout(tuple(space.shape), np.dtype(space.dtype))
    raise Unsuitable(
        f"environment {environment} has {what} of {space}, expected {_FITS}: "
        "wrap it, e.g. in gymnasium.wrappers.FlattenObservation"
    )


class ActionGate:
    """Stores what the policy did and hands on what the environment may see.

    Policies answer in the units of the environment. In a Box what lies outside the bounds is clipped for the
    environment alone: the window keeps the policy's own action, to which its log-probability belongs.

    Attributes:
        clipped: actions (rows) that had to be clipped since the count was last taken.
    """

    def __init__(self, space: Any, environment: str) -> None:
        from gymnasium import spaces

        self.layout = layout_of(space, "actions", environment)
        self.clipped = 0
        self._space = space
        self._environment = environment
        self._plain = isinstance(space, spaces.Discrete)
        self._bounds: tuple[Array, Array] | None = None
        if isinstance(space, spaces.Box) and (np.isfinite(space.low).any() or np.isfinite(space.high).any()):
            self._bounds = (space.low, space.high)

    @property
    def changes_actions(self) -> bool:
        """Whether the environment may see another action than the window keeps."""
        return self._bounds is not None

    def check(self, actions: Any, environments: int) -> None:
        """Refuse actions that cannot fit; meant for the first of a run, where a mistake shows.

        Raises:
            Unsuitable: wrong shape, wrong kind of number, or a choice that does not exist.
        """
        expected = (environments, *self.layout.shape)
        try:
            found = np.asarray(actions)
        except ValueError as error:
            raise self._unfit("actions of different shapes", expected) from error
        if found.shape != expected:
            raise self._unfit(f"actions of shape {found.shape}", expected)
        if found.dtype.kind not in ("iu" if self.layout.dtype.kind in "iu" else "fiu"):
            raise self._unfit(f"actions of dtype {found.dtype}", expected)
        if self._plain:
            for action in found.tolist():
                self.refuse_outside(action)

    def refuse_outside(self, action: Any) -> None:
        """Raise `Unsuitable` where one action, as sent, is outside the space."""
        item = np.asarray(action, self.layout.dtype)
        if not self._space.contains(item if self.layout.shape else item[()]):
            raise Unsuitable(
                f"the policy chose action {action} in {self._environment}, expected one of {self._space}: "
                "the agent was built for other actions"
            )

    def clip(self, actions: Array, out: Array) -> Array:
        """Actions ``[B, *shape]`` inside the bounds, written to ``out``; counts the rows it changed.

        Raises:
            LearningFailure: an action is NaN.
        """
        assert self._bounds is not None
        np.clip(actions, self._bounds[0], self._bounds[1], out=out)
        changed = out != actions
        if changed.any():
            if np.isnan(actions).any():
                raise LearningFailure(
                    f"the policy answered NaN for {self._environment}: {actions[np.isnan(actions)].size} of "
                    f"{actions.size} numbers; its weights or its inputs are not finite"
                )
            self.clipped += int(changed.reshape(len(actions), -1).any(axis=1).sum())
        return out

    def take_clipped(self) -> int:
        """The count, set back to zero."""
        count, self.clipped = self.clipped, 0
        return count

    def _unfit(self, found: str, expected: tuple[int, ...]) -> Unsuitable:
        return Unsuitable(
            f"the policy gave {found} for {self._environment}, expected shape {expected} of {self._space}: "
            "one row for each environment, in its own units"
        )
