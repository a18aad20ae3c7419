"""The shared study: who may begin what, and what becomes of the trials of the dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.trials import owner
from optix_bus.trials.course import Budget
from optix_bus.trials.space import ParamSpace
from optix_bus.trials.storage import open_storage
from optix_bus.trials.study import TrialStudy

SPACE = ParamSpace({"x": ("float", 0.0, 1.0)})
BUDGET = Budget.of(100, None)


def study(storage=None, **options):
    return TrialStudy(SPACE, BUDGET, storage, **options)


def dead_process():
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    return {**owner.myself(), "pid": int(done.stdout), "created": 1.0}


@pytest.fixture(params=["journal", "sqlite", "memory"])
def storage(request, tmp_path):
    return {
        "journal": str(tmp_path / "study.journal"),
        "sqlite": f"sqlite:///{tmp_path / 'study.db'}",
        "memory": None,
    }[request.param]


def test_trials_end_in_one_of_three_ways_and_the_best_complete_one_wins(storage):
    shared = study(storage)
    for number in range(4):
        trial = shared.claim(4)
        shared.space.suggest(trial)
        if number == 3:
            shared.fail(trial, "RuntimeError: flooded")
        elif number == 2:
            trial.report(99.0, 10)
            shared.prune(trial)
        else:
            shared.complete(trial, float(number), steps=100, weights=f"w{number}")
    assert shared.claim(4) is None
    assert [row.state for row in shared.rows()] == ["complete", "complete", "pruned", "failed"]
    best = shared.best()
    assert (best.score, best.number, best.weights_path) == (1.0, 1, "w1")
    assert shared.rows()[3].reason == "RuntimeError: flooded"


def test_the_same_seed_tries_the_same_settings_and_each_trial_others(storage, tmp_path):
    def tried(where):
        shared, found = study(where, seed=7), []
        while (trial := shared.claim(14)) is not None:
            found.append(shared.space.suggest(trial)["x"])
            shared.complete(trial, -((found[-1] - 0.3) ** 2))
        return found

    first = tried(storage)
    assert len(set(first)) == 14
    assert first == tried(str(tmp_path / "again.journal"))


def test_a_trial_of_a_dead_process_is_marked_and_another_takes_its_place(storage):
    shared = study(storage)
    trial = shared.claim(1)
    trial.set_user_attr("owner", dead_process())
    other = shared if storage is None else study(storage)
    assert other.claim(1) is not None
    first, second = shared.rows()
    assert (first.state, second.state) == ("failed", "running")
    assert "is gone" in first.reason


def test_a_trial_of_a_living_process_is_left_alone(storage):
    shared = study(storage)
    shared.claim(2)
    assert shared.reap() == []
    assert shared.claim(2) is not None
    assert shared.claim(2) is None


def test_a_trial_without_a_signature_was_begun_by_somebody_who_died_at_once(tmp_path):
    shared = study(tmp_path / "study.journal")
    shared.study.ask()
    assert shared.reap() == [0]


def test_nobody_judges_processes_of_another_machine():
    assert not owner.is_dead({**dead_process(), "host": "elsewhere"})
    assert owner.is_dead(dead_process())
    assert not owner.is_dead(owner.myself())
    assert owner.is_dead({**owner.myself(), "created": 1.0})  # the number is somebody else's by now


def test_a_trial_that_was_given_up_by_others_cannot_be_told_again(storage):
    shared = study(storage)
    trial = shared.claim(1)
    trial.set_user_attr("owner", dead_process())
    shared.reap()
    shared.complete(trial, 5.0)
    assert [row.state for row in shared.rows()] == ["failed"]
    assert shared.best() is None


@pytest.mark.parametrize("storage", ["journal", "sqlite"], indirect=True)
def test_a_study_over_another_space_or_budget_is_refused(storage):
    study(storage)
    study(storage)
    with pytest.raises(ConfigurationError, match="choose another storage or study_name"):
        TrialStudy(ParamSpace({"y": ("float", 0.0, 1.0)}), BUDGET, storage)
    with pytest.raises(ConfigurationError, match="200 steps a trial"):
        TrialStudy(SPACE, Budget.of(200, None), storage)
    TrialStudy(SPACE, Budget.of(200, None), storage, name="another")


def test_a_journal_whose_writer_was_killed_in_the_middle_of_a_line_goes_on(tmp_path):
    path = tmp_path / "study.journal"
    shared = study(path)
    shared.complete(shared.claim(9), 1.0)
    with path.open("ab") as file:
        file.write(b'{"op_code":5,"worker')
    again = study(path)
    again.complete(again.claim(9), 2.0)
    assert [row.score for row in study(path).rows()] == [1.0, 2.0]


def test_what_is_no_storage_says_so(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        open_storage("nonsense://nowhere")
    with pytest.raises(ConfigurationError, match="type int"):
        open_storage(3)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        open_storage(tmp_path / "file" / "study.journal")
    assert os.listdir(tmp_path) == ["file"]
