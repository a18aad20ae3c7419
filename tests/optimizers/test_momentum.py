from __future__ import annotations

import numpy as np
import pytest

from optix_bus.optimizers.momentum import orders
from tests.optimizers.worlds import Loop, centre, tuner


@pytest.mark.parametrize(("dimensions", "rows"), [(1, 4), (2, 8), (4, 8), (5, 16), (11, 16), (12, 32)])
def test_the_orders_are_orthogonal_to_each_other_to_the_level_and_to_drift(dimensions, rows):
    found = orders(dimensions)
    assert found.shape == (rows, dimensions)
    assert (found.T @ found == rows * np.eye(dimensions)).all()
    assert not found.sum(axis=0).any()
    assert not (np.arange(rows) @ found).any()


def test_the_difference_of_each_parameter_is_found_whatever_the_others_do():
    found = tuner("momentum", 3, alpha=0.1)
    Loop(lambda x: float(5.0 * x[0] - 0.1 * x[1]), [0.5] * 3).run(found, 10, 0)
    assert centre(found) == pytest.approx([0.6, 0.4, 0.5])


def test_a_gradient_that_keeps_its_sign_is_followed_with_whole_steps_and_one_that_turns_is_not():
    steady, turning = tuner("momentum"), tuner("momentum")
    Loop(lambda x: float(x[0]), [0.1]).run(steady, 26, 0)
    assert centre(steady)[0] == pytest.approx(0.1 + 5 * 0.1)
    loop = Loop(lambda x: 0.0, [0.5])
    loop.objective = lambda x: float(x[0]) * (1.0 if (len(loop.made_by) // 5) % 2 else -1.0)
    loop.run(turning, 60, 0)
    assert abs(centre(turning)[0] - 0.5) < 0.2


def test_steps_below_the_smallest_are_not_made():
    found = tuner("momentum", min_delta=0.2)
    Loop(lambda x: float(x[0]), [0.5]).run(found, 40, 0)
    assert centre(found)[0] == 0.5
