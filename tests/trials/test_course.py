"""Budgets and the grid on which trials are compared, in the unit of the budget."""

from __future__ import annotations

import math

import optuna
import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.trials.course import Budget, Course


class Told:
    """Notes what it is told; prunes at one step."""

    def __init__(self, prune_at=None):
        self.reports, self.prune_at = {}, prune_at

    def report(self, value, step):
        assert step not in self.reports
        self.reports[step] = value

    def should_prune(self):
        return self.prune_at is not None and max(self.reports) >= self.prune_at


def test_a_share_is_warm_up_and_there_are_twenty_points():
    assert Budget.of(50_000, None) == Budget(50_000, "steps", 7_500, 2_500)
    assert Budget.of(None, 10) == Budget(10, "episodes", 1, 1)
    assert Budget.of(None, None) == Budget.of(50_000, None)
    assert Budget.of(1000, None, 0, 10) == Budget(1000, "steps", 0, 10)
    assert Budget.of(7, None).setting == {"max_steps": 7}
    assert Budget.of(None, 7).setting == {"max_episodes": 7}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((10, 10), "one budget"),
        ((0, None), "trial_steps=0"),
        ((None, 2.5), "trial_episodes=2.5"),
        ((10, None, -1), "pruner_warmup_steps=-1"),
        ((10, None, None, 0), "pruner_interval=0"),
    ],
)
def test_a_budget_that_is_none_is_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        Budget.of(*arguments)


def test_trials_with_windows_of_different_sizes_are_told_at_the_same_points():
    budget = Budget.of(100, None, 0, 10)
    small, large = Told(), Told()
    course = Course(small, budget)
    for steps in range(7, 112, 7):
        course.see(float(steps), steps)
    course = Course(large, budget)
    for steps in range(32, 130, 32):
        course.see(float(steps), steps)
    assert list(small.reports) == list(large.reports) == list(range(10, 101, 10))
    # At each point the first evaluation that has reached it.
    assert small.reports[10] == 14.0
    assert large.reports[10] == large.reports[30] == 32.0


def test_a_score_that_is_not_finite_leaves_the_last_one_standing():
    told = Told()
    course = Course(told, Budget.of(10, None, 0, 1))
    assert not course.see(math.nan, 1)
    assert told.reports == {}
    course.see(3.0, 2)
    course.see(math.nan, 3)
    course.see(-math.inf, 4)
    assert told.reports == {1: 3.0, 2: 3.0, 3: 3.0, 4: 3.0}


def test_a_trial_that_was_done_early_counts_at_the_points_it_did_not_need():
    told = Told()
    course = Course(told, Budget.of(10, None, 0, 1))
    course.see(5.0, 2)
    course.see(9.0, 4)
    course.end()
    assert told.reports == {1: 5.0, 2: 5.0, **dict.fromkeys(range(3, 11), 9.0)}


@pytest.mark.parametrize("unit", ["steps", "episodes"])
def test_the_median_prunes_in_the_unit_of_the_budget_and_not_before_the_warm_up(unit):
    amount = 10_000 if unit == "steps" else 100
    budget = Budget.of(amount, None) if unit == "steps" else Budget.of(None, amount)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(4, budget.warmup))
    for level in (10.0, 11.0, 12.0, 13.0):
        trial = study.ask()
        course = Course(trial, budget)
        for used in range(amount // 50, amount + 1, amount // 50):
            assert not course.see(level, used)
        study.tell(trial, level)
    trial, ended = study.ask(), 0
    course = Course(trial, budget)
    for used in range(amount // 50, amount + 1, amount // 50):
        if course.see(1.0, used):
            ended = used
            break
    # The first evaluation at or behind the first point of the grid that is not before the warm-up.
    assert ended == budget.warmup + (-budget.warmup) % (amount // 50)
