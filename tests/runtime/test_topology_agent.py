from __future__ import annotations

import pytest

from tests.runtime.topologies import RIGHT, problems, read

ALGORITHM = RIGHT[RIGHT.index("  algorithm:") : RIGHT.index("nodes:")]


def with_agent(text):
    return RIGHT.replace(ALGORITHM, text)


def test_an_agent_with_six_methods_shares_a_process_with_its_pipelines():
    topology = read(with_agent("  class: tests.runtime.fake_nodes:SixMethods\n  arguments: {size: 4}\n"))
    assert topology.shares_agent
    assert {e.name: e.process for e in topology.nodes} == {
        "collector": "agent",
        "learner": "agent",
        "driver": "driver",
    }
    assert topology.agent.in_force() == {
        "class": "tests.runtime.fake_nodes:SixMethods",
        "arguments": {"size": 4},
    }
    assert read(topology.dump()).digest == topology.digest


def test_an_agent_whose_policy_travels_is_spread():
    topology = read(with_agent("  class: tests.runtime.fake_nodes:TravellingAgent\n  arguments: {size: 4}\n"))
    assert not topology.shares_agent
    assert topology.node("learner").process == "learner"


def test_a_function_may_make_the_agent_and_its_further_arguments_are_its_own():
    text = with_agent(
        "  class: tests.runtime.fake_nodes:make_six\n  arguments: {size: 4, rate: 2, more: 1}\n"
    )
    assert read(text).shares_agent


def with_memory(kind, algorithm="recurrent_ppo"):
    text = RIGHT.replace("algorithm: ppo", f"algorithm: {algorithm}")
    return text.replace("nodes:", f"  rnn: {kind}\nnodes:", 1)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_topology_says_the_kind_of_memory(kind):
    topology = read(with_memory(kind))
    assert topology.agent.in_force()["rnn"] == kind
    assert read(topology.dump()).digest == topology.digest
    assert "rnn" not in read(with_memory("null")).agent.in_force()


@pytest.mark.parametrize(
    ("text", "said", "suggestion"),
    [
        (with_memory("elman"), "recurrent_ppo has no memory of kind 'elman'", "it has: gru, lstm"),
        (with_memory("gru", "ppo"), "ppo has no memory of kind 'gru'", "remove it"),
        (
            with_agent("  class: tests.runtime.fake_nodes:SixMethods\n  arguments: {size: 4}\n  rnn: gru\n"),
            "'rnn' of the agent has no effect beside 'class'",
            "give it in 'arguments'",
        ),
    ],
)
def test_a_memory_that_there_is_not_is_refused(text, said, suggestion):
    (problem,) = problems(text)
    assert said in problem.message
    assert suggestion in problem.suggestion


def test_an_agent_of_the_library_is_spread():
    assert not read().shares_agent


def test_a_process_named_by_the_user_stands():
    text = with_agent("  class: tests.runtime.fake_nodes:SixMethods\n  arguments: {size: 4}\n")
    assert read(text, "nodes.learner.process=apart").node("learner").process == "apart"


@pytest.mark.parametrize(
    ("agent", "line", "column", "said", "suggestion"),
    [
        ("class: tests.runtime.fake_nodes:SixMethod", 8, 10, "no 'SixMethod'", "did you mean 'SixMethods'?"),
        ("class: tests.runtime.fake_nodes:FiveMethods", 8, 10, "it lacks learn", "six methods"),
        ("class: tests.runtime.fake_nodes:SixMethods", 8, 10, "needs the argument 'size'", "add it"),
        ("class: tests.runtime.fake_nodes:setting.x", 8, 10, "has no 'setting.x'", ""),
        ("class: optix_bus.runtime.topology_settings:FRAMEWORKS", 8, 10, "is no class and no function", ""),
        ("class: nowhere_at_all:Agent", 8, 10, "there is no module 'nowhere_at_all'", ""),
        (
            "{class: tests.runtime.fake_nodes:SixMethods, arguments: {sise: 1, size: 2}}",
            8,
            60,
            "'sise'",
            "'size'",
        ),
        (
            "{class: tests.runtime.fake_nodes:make_six, device: cpu, arguments: {size: 1}}",
            8,
            46,
            "'device'",
            "",
        ),
        ("{algorithm: ppo, arguments: {a: 1}}", 8, 20, "'arguments' of the agent has no effect", "remove it"),
        ("{algorithm: ppo, class: tests.runtime.fake_nodes:make_six}", 8, 3, "found both", ""),
        ("{algorithm: ppo, device: cuda0}", 8, 28, "unknown device 'cuda0'", "did you mean 'cuda'?"),
        ("{algorithm: ppo, framework: theano}", 8, 31, "expected one of", ""),
        ("{algorithm: ppo, hyperparameters: 3}", 8, 37, "expected a mapping", ""),
    ],
)
def test_a_mistake_in_the_agent_has_its_place(agent, line, column, said, suggestion):
    found = problems(with_agent(f"  {agent}\n"))
    matching = [p for p in found if p.line == line and said in p.message]
    assert matching, [problem.headline for problem in found]
    assert matching[0].column == column
    assert suggestion in f"{matching[0].message}; {matching[0].suggestion}"


def test_one_wrong_option_of_the_agent_does_not_hide_another():
    text = with_agent("  algorithm: ppo\n  framework: theano\n  hyperparameters: {gama: 1}\n")
    assert [problem.line for problem in problems(text)] == [9, 10]


def test_an_agent_that_cannot_travel_cannot_be_ahead_of_itself():
    text = with_agent("  class: tests.runtime.fake_nodes:SixMethods\n  arguments: {size: 4}\n")
    assert read(text, "nodes.driver.lookahead=0")
    (found,) = problems(text, "nodes.driver.lookahead=1")
    assert (found.path, found.column) == ("nodes.driver.lookahead", 24)
    assert "whose policy travels" in found.message
    assert read(RIGHT, "nodes.driver.lookahead=1")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices_that_exist_somewhere_are_right(device):
    assert read(RIGHT, f"agent.device={device}").agent.device == device
