"""Which actions environments allow next: what they say in ``info["action_mask"]``, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

KEY = "action_mask"


class ActionMasks:
    """The masks of ``B`` environments as they stand.

    A mask counts for the observation that it came with. For ``Discrete(n)`` it has ``n`` entries, for
    ``MultiDiscrete`` one part for each number, concatenated or as a sequence of arrays, which is how
    Gymnasium samples with a mask. What is not 0 is allowed. Spaces of other kinds have none, whatever the
    info says.

    Args:
        space: of the actions of one environment.
        environments: how many.

    Attributes:
        now: ``[B, entries]`` bool, or None as long as no environment has said anything.
    """

    def __init__(self, space: Any, environments: int) -> None:
        from gymnasium import spaces

        self.now: npt.NDArray[np.bool_] | None = None
        self._parts: tuple[int, ...] = ()
        if isinstance(space, spaces.Discrete):
            self._parts = (int(space.n),)
        elif isinstance(space, spaces.MultiDiscrete):
            self._parts = tuple(int(n) for n in np.ravel(space.nvec))
        self._environments = environments

    def note(self, row: int, info: Mapping[str, Any]) -> None:
        """Take over what one environment said with its newest observation; silence allows everything.

        Raises:
            ValueError: the mask has another number of entries, or allows no action.
        """
        given = info.get(KEY) if self._parts else None
        if given is None:
            if self.now is not None:
                self.now[row] = True
            return
        mask = self._checked(given)
        if self.now is None:
            self.now = np.ones((self._environments, len(mask)), bool)
        self.now[row] = mask

    def of_final(self, row: int, infos: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
        """What one environment said with the last observation of its episode, where the next has begun in the
        same step: ``[entries]``, from ``infos["final_info"]``; silence allows everything.

        Raises:
            ValueError: as `note`.
        """
        last = infos.get("final_info")
        masks = last.get(KEY) if isinstance(last, Mapping) else None
        told = last.get(f"_{KEY}") if isinstance(last, Mapping) else None
        if masks is None or (told is not None and not told[row]):
            return np.ones(sum(self._parts), bool)
        return self._checked(_of_row(masks, row))

    def _checked(self, given: Any) -> npt.NDArray[np.bool_]:
        """One mask ``[entries]``."""
        mask = _flat(given)
        if mask.shape != (sum(self._parts),):
            raise ValueError(
                f"info['{KEY}'] has {mask.size} entries, expected {sum(self._parts)}: one for each action"
            )
        start = 0
        for size in self._parts:
            if not mask[start : start + size].any():
                raise ValueError(f"info['{KEY}'] allows no action: {mask.astype(int).tolist()}")
            start += size
        return mask

    def note_all(self, infos: Mapping[str, Any], rows: Iterable[int]) -> None:
        """The same for infos in the form of Gymnasium's vector environments."""
        masks = infos.get(KEY)
        if masks is None and self.now is None:
            return
        told = infos.get(f"_{KEY}")
        for row in rows:
            said = masks is not None and (told is None or told[row])
            self.note(row, {KEY: _of_row(masks, row)} if said else {})


def _flat(given: Any) -> npt.NDArray[np.bool_]:
    parts = given if isinstance(given, tuple | list) and np.ndim(given[0]) else [given]
    return np.asarray(np.concatenate([np.ravel(np.asarray(part)) for part in parts]) != 0)


def _of_row(masks: Any, row: int) -> Any:
    # A tuple of parts becomes a tuple of batches of parts.
    return tuple(part[row] for part in masks) if isinstance(masks, tuple) else masks[row]
