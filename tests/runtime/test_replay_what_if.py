"""What would one node have done? The answer, and how far it reaches."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.plan import NodePlan
from optix_bus.runtime.playback import HandlerFailure
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_what_if import as_in_topology, of_class, what_if
from tests.runtime import impure_nodes
from tests.runtime.recorded import DEMO, TOPOLOGIES, contents, record, records, with_validation

WITHOUT_OPTIMIZER = DEMO.read_text().replace(
    "  optimizer:   # tunes hyperparameters while training runs\n    node: nodes.optimizer:OptimizerNode\n",
    "",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    folder = tmp_path_factory.mktemp("demo") / "run"
    return record(folder, DEMO, *with_validation("run.record=events"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run in which nobody but callbacks cares for verdicts."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "topology.yaml").write_text(WITHOUT_OPTIMIZER)
    return record(folder / "run", folder / "topology.yaml", *with_validation())


def changed(run: RecordedRun, name: str = "scheduler", **settings: object) -> NodePlan:
    entry = run.entry(name)
    assert settings.keys() <= entry.settings.keys()
    return msgspec.structs.replace(entry, settings={**entry.settings, **settings})


def test_the_same_settings_give_the_same_answers(demo: RecordedRun) -> None:
    answer = what_if(demo, changed(demo))
    assert (answer.first, answer.void, answer.kinds) == (None, None, [])
    own = [r for r in demo.records() if r.node == "scheduler" and r.type not in ("CutAnnounced", "CutTaken")]
    assert answer.outputs == answer.equal == len(own)


def test_a_change_that_nobody_acts_on_leaves_the_answer_valid_to_the_end(plain: RecordedRun) -> None:
    answer = what_if(plain, changed(plain, improvement_margin=10_000.0))
    judged = records(plain, "WindowJudged")[0]
    assert answer.first is not None
    assert answer.void is None
    assert answer.first.window == 0
    kinds = {(kind.type, kind.field): kind for kind in answer.kinds}
    margin = kinds[("WindowJudged", "margin")]
    assert (margin.first.sequence, margin.first.window, margin.first.new) == (judged.seq, 0, 10_000.0)
    assert margin.count == len(records(plain, "WindowJudged"))


def test_from_the_first_event_on_that_another_node_acts_on_the_answer_is_void(demo: RecordedRun) -> None:
    answer = what_if(demo, changed(demo, max_episodes=3))
    asked = records(demo, "CollectWindow", window=3)[0]
    assert answer.void is not None
    assert (answer.void.sequence, answer.void.window, answer.void.type) == (asked.seq, 3, "CollectWindow")
    assert (answer.void.recorded, answer.void.new) == ("CollectWindow", None)
    assert answer.readers == ["validation", "pipeline", "checkpoint"]
    assert [(kind.type, kind.first.new) for kind in answer.kinds] == [
        ("CollectWindow", None),
        ("RollbackRequested", "RollbackRequested"),
    ]
    assert answer.equal == answer.outputs - 1


def test_what_is_emitted_in_between_moves_nothing_out_of_its_place(demo: RecordedRun) -> None:
    answer = what_if(demo, changed(demo, plateau_threshold=1))
    found = {(kind.type, kind.field): kind.first for kind in answer.kinds}
    assert found[("Plateaued", "type")].recorded is None
    assert found[("WindowJudged", "verdict")].new == "plateaued"


def test_other_cuts_are_not_another_answer(demo: RecordedRun) -> None:
    answer = what_if(demo, changed(demo, cut_windows=1))
    assert (answer.first, answer.void) == (None, None)


def test_another_class_is_asked_in_the_same_way(demo: RecordedRun) -> None:
    eager = of_class(demo.entry("scheduler"), "tests.runtime.impure_nodes:EagerScheduler")
    answer = what_if(demo, eager)
    scored = records(demo, "WindowScored", window=2, purpose="score")[0]
    assert answer.void is not None
    assert (answer.void.cause, answer.void.window) == (scored.seq, 2)
    assert answer.void.new == "RollbackRequested"


def test_it_can_be_asked_of_a_part(demo: RecordedRun) -> None:
    asked = records(demo, "CollectWindow", window=3)[0]
    answer = what_if(demo, changed(demo, max_episodes=3), last=asked.cause - 1)
    assert (answer.first, answer.void) == (None, None)


def test_what_was_answered_behind_the_last_recorded_event_of_the_node_counts(
    plain: RecordedRun, tmp_path: Path
) -> None:
    """The recorded scheduler falls silent after its last words; the other one has more to say."""
    finished = records(plain, "RunFinished")[0]
    answer = what_if(plain, changed(plain, max_episodes=1000), last=finished.cause)
    assert answer.first is not None
    assert answer.first.type == "RollbackRequested"


def test_a_question_has_no_effect_on_the_run(demo: RecordedRun) -> None:
    before = contents(demo.directory.root)
    what_if(demo, changed(demo, max_episodes=3))
    assert contents(demo.directory.root) == before


def test_a_class_that_raises_is_named_with_the_event(demo: RecordedRun) -> None:
    impure_nodes.RAISES_AT_WINDOW.append(0)
    try:
        entry = of_class(demo.entry("checkpoint"), "tests.runtime.impure_nodes:FragileCheckpoint")
        with pytest.raises((HandlerFailure, ConfigurationError)) as caught:
            what_if(demo, entry)
    finally:
        impure_nodes.RAISES_AT_WINDOW.clear()
    # The policies that it is told of were not recorded: that comes first.
    assert "learner/policy-000000" in str(caught.value)
    assert "run.record: blobs" in str(caught.value)


def test_settings_come_from_the_node_of_the_same_name_in_another_topology(
    demo: RecordedRun, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(DEMO.read_text().replace("max_snapshots: 10", "max_snapshots: 3"))
    assert as_in_topology(demo.entry("checkpoint"), other).settings["max_snapshots"] == 3


def test_a_topology_that_has_no_such_node_or_another_role_is_refused(
    demo: RecordedRun, tmp_path: Path
) -> None:
    one = TOPOLOGIES / "cartpole_one_pipeline.yaml"
    with pytest.raises(ConfigurationError, match="has no node 'validation'; its nodes: pipeline, learner"):
        as_in_topology(demo.entry("validation"), one)
    other = tmp_path / "other.yaml"
    other.write_text(one.read_text().replace("  pipeline:   {", "  validation: {"))
    with pytest.raises(ConfigurationError, match="has the role 'train'"):
        as_in_topology(demo.entry("validation"), other)


@pytest.mark.parametrize(
    "path", ["nonsense", "tests.runtime.impure_nodes:", "tests.runtime.impure_nodes:NoNode", "no.such:Class"]
)
def test_what_is_no_node_class_is_refused(demo: RecordedRun, path: str) -> None:
    with pytest.raises(ConfigurationError):
        of_class(demo.entry("scheduler"), path)


def test_a_node_that_shares_its_agent_cannot_be_asked_alone(tmp_path: Path) -> None:
    run = record(tmp_path / "run", TOPOLOGIES / "custom_agent.yaml", *with_validation())
    with pytest.raises(ConfigurationError, match="shares one agent object"):
        what_if(run, run.entry("learner"))
    assert what_if(run, run.entry("scheduler")).first is None
