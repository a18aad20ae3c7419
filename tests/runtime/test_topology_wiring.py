from __future__ import annotations

from optix_bus.messages import VOCABULARY
from optix_bus.runtime.topology_wiring import SUPPLIED
from tests.runtime.topologies import RIGHT, only_problem, problems, read


def test_a_loop_that_feeds_itself_is_right():
    assert len(read().nodes) == 3


def test_a_node_whose_events_nobody_emits_is_named_with_who_would():
    text = RIGHT.replace("  learner: {node: tests.runtime.fake_nodes:Learner}\n", "")
    (found,) = problems(text)
    assert found.message == "'driver' needs PolicyUpdated, which no node of this topology emits"
    assert found.line == 16
    assert found.suggestion == "add a node: nodes.learner:LearnerNode"


def test_several_nodes_that_need_the_same_event_are_one_problem():
    text = RIGHT.replace("  learner:", "  archive: {node: tests.runtime.fake_nodes:Archivist}\n  learner:")
    text = text.replace("nodes:\n", "nodes:\n  shelf: {node: tests.runtime.fake_nodes:Archivist}\n")
    (found,) = problems(text)
    assert "'shelf', 'archive' need SnapshotSaved" in found.message


def test_an_event_that_a_node_can_do_without_needs_nobody():
    from tests.runtime.fake_nodes import Driver

    assert any(kind in Driver.optional for kind in Driver.accepts())
    assert read().node("driver")


def test_two_nodes_that_would_do_the_same_work_are_refused():
    found = only_problem("  learner: {", "  twin: {node: tests.runtime.fake_nodes:Learner}\n  learner: {")
    assert (found.line, found.column) == (17, 3)
    assert "'learner' and 'twin' are both Learner" in found.message


def test_two_training_pipelines_are_refused_and_a_validation_pipeline_is_not():
    second = "  second: {node: tests.runtime.fake_nodes:Collector, role: %s}\n  learner: {"
    found = only_problem("  learner: {", second % "train")
    assert "with the role 'train'" in found.message
    assert "change its role" in found.suggestion
    assert len(read(RIGHT.replace("  learner: {", second % "validation")).nodes) == 4


def test_validation_alone_does_not_train():
    found = only_problem("role: train", "role: validation")
    assert "no Collector has the role 'train'" in found.message


def test_listeners_may_stand_twice():
    # They emit nothing, so nothing is done twice; here only their need is wrong.
    listener = "  %s: {node: tests.runtime.fake_nodes:Archivist}\n"
    found = problems(RIGHT.replace("  learner:", listener % "one" + listener % "two" + "  learner:"))
    assert len(found) == 1
    assert "need SnapshotSaved" in found[0].message


def test_what_runner_and_supervisor_emit_is_part_of_the_vocabulary():
    assert set(VOCABULARY) >= SUPPLIED
