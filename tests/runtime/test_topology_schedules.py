"""Schedules in a topology: accepted, carried to the agent, and every mistake with its place."""

from __future__ import annotations

import jsonschema
import pytest

from optix_bus.agents import make_agent
from optix_bus.runtime.topology_schema import topology_schema
from tests.agents.windows import VECTOR
from tests.runtime.test_topology_schema import content
from tests.runtime.topologies import RIGHT, problems, read

PLAIN = "{learning_rate: 3e-4}"
SCHEDULED = "{learning_rate: {schedule: linear, from: 3e-4, to: 0, over: 200000, clock: environment_steps}}"


def with_hyperparameters(text):
    return RIGHT.replace(PLAIN, text)


def test_a_schedule_reaches_the_agent_as_it_is_written():
    topology = read(with_hyperparameters(SCHEDULED))
    given = topology.agent.in_force()["hyperparameters"]
    assert given["learning_rate"] == {
        "schedule": "linear", "from": 3e-4, "to": 0, "over": 200000, "clock": "environment_steps"
    }  # fmt: skip
    agent = make_agent(VECTOR, seed=0, hyperparams=given)
    assert agent.get_hyperparams().params["learning_rate"] == 3e-4
    assert agent._hyperparams.schedules["learning_rate"].at(100_000) == pytest.approx(1.5e-4)
    assert read(topology.dump()).digest == topology.digest


def test_a_value_of_a_schedule_can_be_set_from_outside_the_file():
    topology = read(with_hyperparameters(SCHEDULED), "agent.hyperparameters.learning_rate.over=1000")
    assert topology.agent.in_force()["hyperparameters"]["learning_rate"]["over"] == 1000


@pytest.mark.parametrize(
    ("hyperparameters", "column", "said", "suggestion"),
    [
        ("{gamma: {schedule: linea, from: 0.9, to: 1, over: 5}}", 39, "expected one of", "'linear'"),
        ("{gamma: {schedule: linear, from: 1, to: 1, ofer: 5}}", 63, "unknown key 'ofer'", "'over'"),
        ("{gamma: {schedule: linear, to: 1, over: 5}}", 28, "lacks the required key 'from'", "add it"),
        ("{gamma: {schedule: linear, from: 0.9, to: 1.5, over: 5}}", 62, "'to' of the schedule", ""),
        ("{gamma: {schedule: linear, from: 0.9, to: 1, over: 0}}", 71, "expected at least 1", ""),
        ("{gamma: {schedule: linear, from: a, to: 1, over: 5}}", 53, "expected a number", ""),
        ("{gamma: {schedule: linear, from: 0.9, over: 5}}", 28, "a linear schedule lacks 'to'", ""),
        ("{gamma: {schedule: linear, from: 0.9, to: 1, over: 5, clock: w}}", 81, "'environment_steps'", ""),
        ("{learning_rate: {schedule: exponential, from: 1, to: 0, over: 5}}", 36, "write linear", ""),
        ("{learning_rate: {schedule: constant, from: 0}}", 63, "expected a number above 0.0", ""),
        ("{normalize_advantage: {schedule: constant, from: 1}}", 42, "expected true or false", ""),
        ("{gama: {schedule: constant, from: 1}}", 21, "unknown hyperparameter 'gama'", "'gamma'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_schedule_has_its_place(hyperparameters, column, said, suggestion):
    found = problems(with_hyperparameters(hyperparameters))
    assert len(found) == 1, [problem.headline for problem in found]
    assert said in found[0].message
    assert suggestion in found[0].suggestion
    assert (found[0].line, found[0].column) == (10, column)


def test_mistakes_in_two_schedules_and_beside_them_are_all_found():
    text = "{gamma: {schedule: linear}, clip_ratio: {shedule: linear, from: 1}, n_epochs: 0}"
    said = " ".join(problem.message for problem in problems(with_hyperparameters(text)))
    for part in ("'gamma' lacks the required key 'from'", "'shedule'", "'n_epochs' of ppo"):
        assert part in said


def test_editors_know_schedules_too():
    validator = jsonschema.Draft202012Validator(
        topology_schema([f"tests.runtime.fake_nodes:{name}" for name in ("Collector", "Learner", "Driver")])
    )
    assert validator.is_valid(content(with_hyperparameters(SCHEDULED)))
    for mistake in ("{gamma: {schedule: linea, from: 1}}", "{gamma: {schedule: linear, fron: 1}}",
                    "{normalize_advantage: {schedule: constant, from: 1}}", "{gamma: 1.5}"):  # fmt: skip
        assert not validator.is_valid(content(with_hyperparameters(mistake)))
