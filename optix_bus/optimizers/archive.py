"""What was tried in a run, and what it scored."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Archive:
    """The newest pairs of parameters and score, first in, first out.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int) -> None:
        self._tried: deque[tuple[list[float], float]] = deque(maxlen=size)
        #: Where hyperparameters lay that may still be scored, by their version.
        self._open: dict[int, list[float]] = {}

    def __len__(self) -> int:
        return len(self._tried)

    def decided(self, version: int, point: Array) -> None:
        """Where a version of the hyperparameters lies."""
        self._open[version] = point.tolist()

    def heard(self, version: int, score: float) -> None:
        """A version has scored; none before it will be heard of again."""
        self._open = {number: point for number, point in self._open.items() if number >= version}
        if version in self._open:
            self._tried.append((self._open[version], score))

    def clear(self) -> None:
        """Forget everything: coordinates mean something else now."""
        self._tried.clear()
        self._open.clear()

    def lowest(self, share: float) -> float:
        """The score below which this share of them lies; needs at least one."""
        return float(np.quantile([score for _, score in self._tried], share))

    def top(self, share: float) -> list[Array]:
        """``[d]`` each: the points of this share of the highest scores, at least one."""
        ranked = sorted(self._tried, key=lambda pair: -pair[1])
        return [np.array(point) for point, _ in ranked[: max(1, round(share * len(ranked)))]]

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on."""
        return {
            "points": [point for point, _ in self._tried],
            "scores": [score for _, score in self._tried],
            "open": [[version, point] for version, point in self._open.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.clear()
        pairs = zip(state["points"], state["scores"], strict=True)
        self._tried.extend(([float(x) for x in point], float(score)) for point, score in pairs)
        self._open = {int(version): [float(x) for x in point] for version, point in state["open"]}
