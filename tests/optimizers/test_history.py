"""A series of scores as arrays and back."""

from __future__ import annotations

import math

from optix_bus.bus import blob_format
from optix_bus.optimizers.history import ScoreHistory, pack_history, unpack_history
from optix_bus.types import EvalMetrics


def there_and_back(history: list[EvalMetrics]) -> list[EvalMetrics]:
    stored = b"".join(blob_format.parts(pack_history(history)))
    return unpack_history(blob_format.parse(stored, "history"))


def test_scores_come_back_with_the_metrics_they_had_and_no_stamp() -> None:
    history = [
        EvalMetrics(0.1, {"n": 20.0, "std": 1 / 3}, 4, 99.0),
        EvalMetrics(-1e300, {"std": 2.0, "entropy": math.inf}, 7, 100.0),
        EvalMetrics(5.0, {}, 9, 101.0),
    ]
    assert there_and_back(history) == [
        EvalMetrics(0.1, {"n": 20.0, "std": 1 / 3}, 4, 0.0),
        EvalMetrics(-1e300, {"std": 2.0, "entropy": math.inf}, 7, 0.0),
        EvalMetrics(5.0, {}, 9, 0.0),
    ]


def test_a_metric_that_is_no_number_is_not_one_that_is_missing() -> None:
    (found,) = there_and_back([EvalMetrics(math.nan, {"gap": math.nan}, 0, 0.0)])
    assert math.isnan(found.primary_score)
    assert math.isnan(found.metrics["gap"])


def test_nothing_comes_back_as_nothing() -> None:
    assert there_and_back([]) == []


def test_a_history_that_grew_packs_as_one_that_is_packed_at_once() -> None:
    grown = ScoreHistory(limit=4)
    kept: list[EvalMetrics] = []
    for number in range(12):
        # Another set of metrics for a while, and another order of the same.
        names = (
            ("a", "b") if number < 3 else ("a",) if number < 5 else ("b", "a") if number < 8 else ("a", "b")
        )
        kept.append(EvalMetrics(float(number), {name: number + 0.5 for name in names}, number, 0.0))
        grown.append(kept[-1])
        packed, expected = grown.pack(), pack_history(kept[-4:])
        assert grown.all() == kept[-4:]
        assert packed.metadata == expected.metadata
        assert b"".join(blob_format.parts(packed)) == b"".join(blob_format.parts(expected))
