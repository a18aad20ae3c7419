from __future__ import annotations

import numpy as np
import pytest

from optix_bus.optimizers import PBTOptimizer
from optix_bus.optimizers.archive import Archive
from optix_bus.types import EvalMetrics, HyperparamSet
from tests.optimizers.worlds import Loop, centre, tuner


def test_the_archive_keeps_the_newest_pairs_and_knows_the_lowest_and_the_top():
    archive = Archive(5)
    for version in range(8):
        archive.decided(version, np.array([version / 10]))
        archive.heard(version, float(version))
    archive.heard(99, 1e9)
    assert len(archive) == 5
    assert archive.lowest(0.2) == pytest.approx(3.8)
    assert [point.tolist() for point in archive.top(0.2)] == [[0.7]]
    again = Archive(5)
    again.load_state(archive.state())
    assert again.state() == archive.state()


def test_a_collapse_is_answered_by_what_scored_highest_before():
    found, loop = tuner("pbt"), Loop(lambda x: -float((x[0] - 0.8) ** 2), [0.75])
    loop.run(found, 40, 0)
    loop.params = HyperparamSet({"p0": 0.1})
    loop.version += 1
    loop.run(found, 15, 0)
    assert any(abs(seen["p0"] - 0.8) < 0.15 for seen in loop.seen[40:])
    loop.run(found, 25, 0)
    assert centre(found)[0] == pytest.approx(0.8, abs=0.15)


def test_where_it_does_well_it_explores_around_itself():
    found, loop = tuner("pbt"), Loop(lambda x: 0.0, [0.5])
    loop.run(found, 60, 0)
    sizes = {round(abs(seen["p0"] - 0.5), 6) for seen in loop.seen}
    assert all(size == 0.0 or 0.1 <= size <= 0.2 for size in sizes)
    assert len(sizes) > 3


def test_the_usual_names_are_on_a_log_scale_unless_others_are_named():
    def tried(**options: object) -> float:
        bounds = {"learning_rate": (1e-5, 1e-1)}
        found = PBTOptimizer(bounds, explore_scale=0.5, **options)  # type: ignore[arg-type]
        current, seen = HyperparamSet({"learning_rate": 1e-3}), []
        for window in range(60):
            current = found.suggest(current, [EvalMetrics(0.0, {}, window + 1)])
            seen.append(current.params["learning_rate"])
        return min(seen)

    assert 1e-5 <= tried() < 2e-4
    assert tried(log_scale_params=set()) in (1e-3, 1e-5)
