"""A series of scores as arrays: hundreds of them are stored at every cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from optix_bus.types import EvalMetrics, NamedArrays


def pack_history(history: Collection[EvalMetrics]) -> NamedArrays:
    """Scores and metrics by window, without stamps.

    Returns:
        ``windows [N]``, ``scores [N]``, ``values [N, K]`` and, where not every score has every metric,
        ``present [N, K]``; the names of the metrics are in the metadata, in the order in which they first
        appear.
    """
    names = list(dict.fromkeys(name for score in history for name in score.metrics))
    values = np.array([[score.metrics.get(name, np.nan) for name in names] for score in history], np.float64)
    packed = _packed(history, names, values)
    if any(len(score.metrics) != len(names) for score in history):
        present = np.array([[name in score.metrics for name in names] for score in history], bool)
        return NamedArrays({**packed.arrays, "present": present}, packed.metadata)
    return packed


def _packed(
    history: Collection[EvalMetrics], names: Sequence[str], values: npt.NDArray[np.float64]
) -> NamedArrays:
    arrays = {
        "windows": np.array([score.episode_id for score in history], np.int64),
        "scores": np.array([score.primary_score for score in history], np.float64),
        "values": values.reshape(len(history), len(names)),
    }
    return NamedArrays(arrays, {"names": list(names)})


class ScoreHistory:
    """The newest scores, ready to be packed: what each score says is laid out once, not at every cut.

    Args:
        scores: to begin with.
        limit: how many are kept. Optimizers look at the recent past only; a run of weeks must not keep all.
    """

    def __init__(self, scores: Iterable[EvalMetrics] = (), limit: int = 500) -> None:
        self._scores: deque[EvalMetrics] = deque(maxlen=limit)
        #: The values of the newest scores that have exactly these metrics, in this order.
        self._rows: deque[list[float]] = deque(maxlen=limit)
        self._names: tuple[str, ...] = ()
        for score in scores:
            self.append(score)

    def __len__(self) -> int:
        return len(self._scores)

    def append(self, score: EvalMetrics) -> None:
        """One more; the oldest goes where there are too many."""
        self._scores.append(score)
        names = tuple(score.metrics)
        if names != self._names:
            self._names = names
            self._rows.clear()
        self._rows.append(list(score.metrics.values()))

    def all(self) -> list[EvalMetrics]:
        """A new list of them, the oldest first."""
        return list(self._scores)

    def pack(self) -> NamedArrays:
        """As `pack_history`."""
        if len(self._rows) < len(self._scores):
            return pack_history(self._scores)
        return _packed(self._scores, self._names, np.array(self._rows, np.float64))


def unpack_history(packed: NamedArrays) -> list[EvalMetrics]:
    """What `pack_history` packed."""
    names = list(packed.metadata["names"])
    values = packed.arrays["values"].tolist()
    everything = [[True] * len(names)] * len(values)
    present = packed.arrays["present"].tolist() if "present" in packed.arrays else everything
    return [
        EvalMetrics(
            score,
            {name: value for name, value, there in zip(names, row, known, strict=True) if there},
            window,
            0.0,
        )
        for window, score, row, known in zip(
            packed.arrays["windows"].tolist(), packed.arrays["scores"].tolist(), values, present, strict=True
        )
    ]
