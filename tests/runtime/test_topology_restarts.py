"""`restart` of a node, and what follows from it for the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.topology_schema import topology_schema
from optix_bus.runtime.topology_templates import TEMPLATES, write_topology
from tests.runtime.topologies import RIGHT, only_problem, problems, read


@pytest.mark.parametrize("policy", ["permanent", "transient"])
def test_a_node_says_whether_it_comes_back(policy: str) -> None:
    text = RIGHT.replace("Learner}", f"Learner, restart: {policy}}}")
    assert read(text).node("learner").restart == policy
    assert read().node("learner").restart == "transient"


def test_a_misspelt_policy_is_refused_with_a_suggestion() -> None:
    found = only_problem("Learner}", "Learner, restart: permanant}")
    assert found.path == "nodes.learner.restart"
    assert "permanent" in found.suggestion


def test_a_misspelt_key_is_refused_with_a_suggestion() -> None:
    assert "restart" in only_problem("Learner}", "Learner, restrat: permanent}").suggestion


def test_a_node_that_others_wait_for_cannot_be_temporary() -> None:
    found = only_problem("Learner}", "Learner, restart: temporary}")
    assert found.message == (
        "'learner' cannot be temporary: the run would wait for ever ('driver' for its PolicyUpdated)"
    )
    assert (found.line, found.path) == (16, "nodes.learner.restart")
    assert "transient" in found.suggestion


def test_whoever_ends_the_run_is_waited_for_by_the_supervisor() -> None:
    text = RIGHT.replace("  learner: {", "  end: {node: nodes.scheduler:SchedulerNode, %s}\n  learner: {")
    found = [problem.message for problem in problems(text % "restart: temporary")]
    assert any("'supervisor' for its RunFinished" in message for message in found)


def test_a_policy_can_be_set_from_outside() -> None:
    assert read(RIGHT, "nodes.learner.restart=permanent").node("learner").restart == "permanent"


def test_the_resolved_file_holds_it() -> None:
    assert read().resolved()["nodes"]["learner"]["restart"] == "transient"
    assert "restart: transient" in read().dump()
    assert read().resolved()["run"]["restarts"] == 10


def test_schema_and_templates_speak_of_it() -> None:
    node = topology_schema()["properties"]["nodes"]["additionalProperties"]["anyOf"][0]
    entry = node["properties"]["restart"]
    assert entry["enum"] == ["permanent", "transient", "temporary"]
    assert entry["default"] == "transient"
    text = write_topology(TEMPLATES["cartpole_ppo"])
    assert "    # restart: transient" in text
    assert "# restarts: 10" in text


def test_the_plan_knows_who_is_waited_for_and_who_holds_the_agent() -> None:
    plan = make_plan(read(), run_id="r", run_directory=Path("run"))
    found = {node.name: (node.needed, node.holds_agent) for node in plan.nodes}
    assert found == {"collector": (True, False), "learner": (True, True), "driver": (True, False)}
    assert plan.holds_agent("learner")
    assert not plan.holds_agent("driver")


def test_who_shares_the_learners_agent_holds_it_too() -> None:
    start, end = RIGHT.index("  algorithm"), RIGHT.index("nodes:")
    agent = "  class: tests.runtime.fake_nodes:SixMethods\n  arguments: {size: 1}\n"
    text = RIGHT[:start] + agent + RIGHT[end:]
    plan = make_plan(read(text), run_id="r", run_directory=Path("run"))
    assert [node.name for node in plan.nodes if node.holds_agent] == ["collector", "learner"]


def test_nobody_waits_for_callbacks() -> None:
    from optix_bus.runtime.topology_wiring import waiting_for

    entries = read().nodes
    assert {entry.name: waiting_for(entry, entries) for entry in entries} == {
        "collector": {"learner": "WindowCollected"},
        "learner": {"driver": "PolicyUpdated"},
        "driver": {"collector": "CollectWindow"},
    }
    from nodes.callbacks import CallbackNode

    assert CallbackNode.emits == ()
