"""A series of scores as arrays: hundreds of them are stored at every cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optix_bus.types import EvalMetrics, NamedArrays


def pack_history(history: Sequence[EvalMetrics]) -> NamedArrays:
    """Scores and metrics by window, without stamps.

    Returns:
        ``windows [N]``, ``scores [N]``, ``values [N, K]`` and, where not every score has every metric,
        ``present [N, K]``; the names of the metrics are in the metadata, in the order in which they first
        appear.
    """
    names = list(dict.fromkeys(name for score in history for name in score.metrics))
    values = np.array([[score.metrics.get(name, np.nan) for name in names] for score in history], np.float64)
    arrays = {
        "windows": np.array([score.episode_id for score in history], np.int64),
        "scores": np.array([score.primary_score for score in history], np.float64),
        "values": values.reshape(len(history), len(names)),
    }
    if any(len(score.metrics) != len(names) for score in history):
        arrays["present"] = np.array([[name in score.metrics for name in names] for score in history], bool)
    return NamedArrays(arrays, {"names": names})


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
