"""Weights follow scores, whatever their sign and size."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optix_bus.evolution.weights import score_weights

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6)


def test_positive_scores_weigh_in_proportion():
    assert score_weights([1.0, 3.0]) == pytest.approx([0.5, 1.5])


def test_scores_that_are_not_positive_are_shifted_and_nobody_is_silenced():
    weights = score_weights([-200.0, -100.0, 0.0])
    assert weights == pytest.approx([0.05 * 3 / 1.65, 0.55 * 3 / 1.65, 1.05 * 3 / 1.65])
    assert min(weights) > 0.0


@given(SCORES)
@example([0.0, 5e-324])
@example([4.0, 5e-324])
@example([-1e6, -1e6 + 1e-9])
def test_weights_are_positive_average_one_and_keep_the_order_of_the_scores(scores):
    weights = score_weights(scores)
    assert all(weight > 0.0 and math.isfinite(weight) for weight in weights)
    assert math.fsum(weights) == pytest.approx(len(scores))
    for a, wa in zip(scores, weights, strict=True):
        for b, wb in zip(scores, weights, strict=True):
            assert wa >= wb or a <= b


def test_who_was_never_scored_weighs_one_and_equal_scores_weigh_alike():
    nan = float("nan")
    assert score_weights([nan, nan]) == [1.0, 1.0]
    assert score_weights([nan, 4.0, 12.0]) == pytest.approx([1.0, 0.5, 1.5])
    assert score_weights([-3.0, -3.0]) == [1.0, 1.0]
