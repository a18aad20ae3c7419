"""That the runner of the learning gates judges, remembers and prints what it should; the training itself is
`python -m tests.learning`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from optix_bus.agents.cards import CARDS
from tests.learning import __main__ as runner
from tests.learning import table
from tests.learning.demands import Demand
from tests.learning.gates import GATES, Gate, find
from tests.learning.trial import Course, Result, run

SCORES = [1.0, 2.0, 3.0, 4.0, 100.0]


@pytest.mark.parametrize(
    ("demand", "holds"),
    [
        (Demand("IQM", ">=", 3.0), True),
        (Demand("IQM", ">=", 3.1), False),
        (Demand("IQM", "<=", 3.0), True),
        (Demand(1.0, ">=", 1.0), True),
        (Demand(1.0, ">=", 1.5), False),
        (Demand(0.8, ">=", 1.5), True),
        (Demand(0.8, ">=", 2.5), False),
        (Demand("IQM", ">=", "other"), True),
    ],
)
def test_a_demand_holds_or_not(demand: Demand, holds: bool) -> None:
    assert demand.holds(SCORES, [2.0, 3.0, 3.5]) is holds


def test_of_fewer_seeds_a_share_is_asked_for_that_is_not_smaller() -> None:
    four_of_five = Demand(0.8, ">=", 10.0)
    assert not four_of_five.holds([11.0, 11.0, 9.0])
    assert four_of_five.holds([11.0, 11.0, 11.0])


def test_no_score_and_nan_meet_nothing() -> None:
    assert not Demand("IQM", "<=", 80.0).holds([])
    assert not Demand("IQM", "<=", 80.0).holds([1.0, 2.0, math.nan])
    assert not Demand("IQM", ">=", "other").holds([1.0], [])


def test_a_demand_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected >= or <="):
        Demand("IQM", ">", 3.0)
    with pytest.raises(ValueError, match="share of the seeds"):
        Demand(1.5, ">=", 3.0)


@pytest.mark.parametrize(
    "gate", [gate for gate in GATES if gate.trainer == "agent"], ids=lambda gate: gate.name
)
def test_settings_fit_the_algorithm_and_training_takes_no_more_than_the_steps(gate: Gate) -> None:
    card = CARDS[gate.algorithm]
    assert gate.framework in card.frameworks
    assert card.problems(gate.hyperparams) == {}
    assert gate.environments * gate.window <= gate.steps
    for value in gate.hyperparams.values():
        if isinstance(value, dict):
            assert value["over"] <= gate.steps


def test_every_gate_has_a_name_of_its_own_and_a_figure_its_source() -> None:
    assert len({gate.name for gate in GATES}) == len(GATES)
    for gate in GATES:
        assert gate.source.startswith("https://") or gate.reference == "no public figure"


def test_a_gate_brings_along_what_its_demand_rests_on_and_an_unknown_one_is_named() -> None:
    assert [gate.name for gate in find(["cartpole-rainbow"])] == ["cartpole-dqn", "cartpole-rainbow"]
    assert find([]) == list(GATES)
    with pytest.raises(ValueError, match="no gate cartpole; there are cartpole-ppo"):
        find(["cartpole"])


def test_a_digest_follows_the_settings_and_nothing_else() -> None:
    gate = GATES[0]
    assert dataclasses.replace(gate, steps=1).digest != gate.digest
    assert dataclasses.replace(gate, hyperparams={**gate.hyperparams, "gamma": 0.5}).digest != gate.digest
    assert dataclasses.replace(gate, demand=Demand("IQM", ">=", 0.0), reference="").digest == gate.digest


def test_a_result_survives_being_written() -> None:
    result = Result("a", 3, "d", -1.5, 100, 0.25, (1.0, None))
    assert Result.read(result.line()) == result


def test_the_course_is_told_part_by_part() -> None:
    course = Course()
    course.add(0.0, [1.0, 3.0])
    course.add(0.99, [7.0])
    assert course.means() == [2.0, *[None] * 18, 7.0]


def test_a_trial_is_the_same_again_and_counts_its_steps() -> None:
    gate = dataclasses.replace(find(["cartpole-ppo"])[0], steps=1100)
    first, second = run(gate, 3), run(gate, 3)
    assert (first.score, first.course) == (second.score, second.course)
    assert (first.steps, first.seed, first.digest) == (1024, 3, gate.digest)
    assert 1.0 <= first.score <= 500.0
    assert first.cpu_minutes > 0.0


def test_a_trial_of_bit_flip_tells_the_share_of_goals_reached() -> None:
    gate = dataclasses.replace(find(["bitflip-her"])[0], steps=600, extra={"bits": 2, "k": 4})
    result = run(gate, 0)
    assert 590 <= result.steps <= 600
    assert result.score > 0.5  # two bits: a policy at random finds every second goal


class _Trials:
    """Stands for training: notes what is asked for and finds what it is told to."""

    def __init__(self, scores: dict[str, float], broken: str = "") -> None:
        self.scores, self.broken = scores, broken
        self.asked: list[tuple[str, int]] = []

    def __call__(self, gate: Gate, seed: int, file: Path) -> bool:
        self.asked.append((gate.name, seed))
        if gate.name == self.broken:
            return False
        with file.open("a") as out:
            out.write(
                Result(gate.name, seed, gate.digest, self.scores[gate.name], gate.steps, 1.0).line() + "\n"
            )
        return True


def _main(monkeypatch: pytest.MonkeyPatch, trials: _Trials, *arguments: Any) -> int:
    monkeypatch.setattr(runner, "trial", trials)
    return runner.main([str(argument) for argument in arguments])


def test_a_run_goes_on_where_it_stopped_and_a_broken_line_is_done_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, trials = tmp_path / "r.jsonl", _Trials({"cartpole-ppo": 500.0})
    ask = ("cartpole-ppo", "--results", file)
    assert _main(monkeypatch, trials, *ask, "--seeds", 2) == 0
    file.write_text(file.read_text() + '{"gate": "cartpole-ppo", "seed": 2, "di')
    assert _main(monkeypatch, trials, *ask, "--seeds", 4, "--resume") == 0
    assert trials.asked == [("cartpole-ppo", seed) for seed in (0, 1, 2, 3)]
    assert len(runner.read(file)) == 4
    assert _main(monkeypatch, trials, *ask, "--seeds", 1) == 0  # anew
    assert list(runner.read(file)) == [("cartpole-ppo", 0)]


def test_results_of_other_settings_are_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, trials = tmp_path / "r.jsonl", _Trials({"cartpole-ppo": 500.0})
    file.write_text(Result("cartpole-ppo", 0, "another", 9.0, 1, 1.0).line() + "\n")
    assert _main(monkeypatch, trials, "cartpole-ppo", "--results", file, "--seeds", 1, "--resume") == 0
    assert trials.asked == [("cartpole-ppo", 0)]


def test_a_missed_gate_and_a_trial_that_broke_end_with_codes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "r.jsonl", tmp_path / "RESULTS.md"
    trials = _Trials({"cartpole-ppo": 474.9, "acrobot-ppo": -80.0})
    code = _main(
        monkeypatch, trials, "cartpole-ppo", "acrobot-ppo", "--results", file, "--seeds", 2, "--table", page
    )
    assert code == 3
    printed = capsys.readouterr().out
    assert "missed: cartpole-ppo\n" in printed
    assert page.read_text() in printed
    assert trials.asked[:2] == [("cartpole-ppo", 0), ("acrobot-ppo", 0)]  # seed by seed
    broken = _Trials({"acrobot-ppo": -80.0}, broken="cartpole-ppo")
    assert _main(monkeypatch, broken, "cartpole-ppo", "--results", file, "--seeds", 1) == 1
    assert "could not be run: cartpole-ppo seed 0" in capsys.readouterr().out
    assert runner.main(["cartpole"]) == 2
    assert "there is no gate cartpole" in capsys.readouterr().err


def test_a_trial_that_dies_is_reported_and_leaves_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nameless = dataclasses.replace(GATES[0], name="nobody")
    assert not runner.trial(nameless, 0, tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()
    assert "nobody seed 0: ended with 2" in capsys.readouterr().out


def test_the_page_tells_verdicts_seeds_and_what_differs() -> None:
    gates = find(["acrobot-ppo", "cartpole-rainbow"])
    scores = {
        "acrobot-ppo": [-80.0, -90.0, -99.0],
        "cartpole-dqn": [300.0] * 5,
        "cartpole-rainbow": [299.0] * 5,
    }
    results = {
        (gate.name, seed): Result(gate.name, seed, gate.digest, score, gate.steps, 2.0, load=1.5 + seed / 8)
        for gate in gates
        for seed, score in enumerate(scores[gate.name])
    }
    lines = table.page(gates, results, 5).splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert (
        "| -80.0 -90.0 -99.0 | -89.7 [-99.0, -80.0] | IQM >= -95 | met so far | 2.00 |" in rows["acrobot-ppo"]
    )
    assert "IQM >= 475 | **missed** |" in rows["cartpole-dqn"]
    assert "IQM >= IQM of `cartpole-dqn` | **missed** |" in rows["cartpole-rainbow"]
    assert "1. `acrobot-ppo`: observations and rewards are not normalised; 3 instead of 5 seeds." in lines
    assert any("torch 2." in line and "; load of the machine 1.5 to 2." in line for line in lines)
    assert table.verdict(gates[2], {}, gates) is None
    one = {("acrobot-ppo", 0): results["acrobot-ppo", 0]}
    assert "| -80.0 | -80.0 | IQM >= -95 |" in table.page(gates[:1], one, 5)  # one seed has no interval
    assert "not run" in table.page(gates, {}, 5)
