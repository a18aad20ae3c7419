"""Whole runs, recorded in this process and played again."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from optix_bus.bus import blob_format
from optix_bus.errors import ConfigurationError
from optix_bus.messages import RunResumed
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_session import Watch, replay
from optix_bus.types import NamedArrays
from tests.runtime import impure_nodes
from tests.runtime.recorded import (
    DEMO,
    TOPOLOGIES,
    altered,
    attempt,
    body,
    contents,
    record,
    records,
    rewritten,
    with_validation,
)

NODES = ("validation", "pipeline", "learner", "evaluator", "scheduler", "optimizer", "checkpoint")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    return record(tmp_path_factory.mktemp("demo") / "run", DEMO, *with_validation())


def test_everything_that_a_run_emitted_is_emitted_again(demo: RecordedRun) -> None:
    report = replay(demo)
    assert (report.exit_code, report.divergence, report.unrecorded) == (0, None, [])
    assert report.nodes == list(NODES)
    roots = sum(not found.cause for found in demo.records())
    assert report.outputs == demo.head - roots
    assert report.cuts == len(records(demo, "CutTaken")) == 2 * len(NODES)
    assert report.tolerance == 0.0


@pytest.mark.parametrize("topology", sorted(path.name for path in TOPOLOGIES.glob("*.yaml")))
def test_every_topology_of_the_repository_can_be_replayed(topology: str, tmp_path: Path) -> None:
    overrides = with_validation() if "\n  validation:" in (TOPOLOGIES / topology).read_text() else ()
    report = replay(record(tmp_path / "run", TOPOLOGIES / topology, *overrides))
    assert (report.exit_code, report.divergence) == (0, None)
    assert report.cuts


@pytest.mark.parametrize("node", ["scheduler", "optimizer"])
def test_a_node_that_needs_no_arrays_is_played_alone(demo: RecordedRun, node: str) -> None:
    report = replay(demo, [node])
    assert (report.exit_code, report.nodes) == (0, [node])
    assert report.outputs == sum(found.node == node for found in demo.records())


def test_lookahead_and_two_windows_under_way_are_replayed(tmp_path: Path) -> None:
    run = record(tmp_path / "run", DEMO, *with_validation("nodes.scheduler.lookahead=1"))
    assert replay(run).exit_code == 0


def test_a_replay_has_no_effect_on_the_run(demo: RecordedRun) -> None:
    before = contents(demo.directory.root)
    replay(demo)
    replay(demo, ["checkpoint", "learner"])
    assert contents(demo.directory.root) == before


def test_a_run_that_was_moved_is_replayed_where_it_lies(demo: RecordedRun, tmp_path: Path) -> None:
    shutil.copytree(demo.directory.root, tmp_path / "elsewhere")
    assert replay(RecordedRun(tmp_path / "elsewhere")).exit_code == 0
    assert not (tmp_path / "elsewhere" / "checkpoints" / "checkpoints").exists()


def test_snapshots_in_a_folder_of_their_own_are_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "snapshots"
    run = record(tmp_path / "run", DEMO, *with_validation(f"nodes.checkpoint.directory={directory}"))
    before = contents(directory)
    assert before
    assert replay(run).exit_code == 0
    assert contents(directory) == before


@pytest.mark.parametrize(
    ("event_type", "field", "value"),
    [
        ("WindowScored", "score", 12.5),
        ("WindowJudged", "verdict", "dormant"),
        ("HyperparametersProposed", "changed", None),
        ("SnapshotSaved", "sha256", "0" * 64),
        ("CollectWindow", "policy_version", 99),
    ],
)
def test_an_altered_output_is_found_where_it_is(
    demo: RecordedRun, tmp_path: Path, event_type: str, field: str, value: object
) -> None:
    victim = records(demo, event_type)[1]
    value = not body(victim)[field] if value is None else value
    report = replay(altered(demo, tmp_path / "run", victim.seq, **{field: value}))
    found = report.divergence
    assert report.exit_code == 1
    assert found is not None
    assert (found.sequence, found.node, found.field) == (victim.seq, victim.node, field)
    assert (found.expected, found.found) == (value, body(victim)[field])


def test_an_altered_digest_of_arrays_is_named_by_its_path(demo: RecordedRun, tmp_path: Path) -> None:
    victim = records(demo, "WindowCollected", purpose="train")[2]
    data = {**body(victim)["data"], "checksum": "0" * 32}
    found = replay(altered(demo, tmp_path / "run", victim.seq, data=data)).divergence
    assert found is not None
    assert (found.sequence, found.node, found.field) == (victim.seq, "pipeline", "data.checksum")


def test_an_altered_input_shows_in_the_answer_of_who_read_it(demo: RecordedRun, tmp_path: Path) -> None:
    victim = records(demo, "WindowScored", purpose="score")[1]
    run = altered(demo, tmp_path / "run", victim.seq, score=-1000.0)
    found = replay(run, ["scheduler"]).divergence
    answer = next(r for r in demo.records(victim.seq) if r.cause == victim.seq and r.node == "scheduler")
    assert found is not None
    assert (found.sequence, found.cause, found.node) == (answer.seq, victim.seq, "scheduler")


def test_of_a_state_that_differs_at_a_cut_it_is_said_what_differs(demo: RecordedRun, tmp_path: Path) -> None:
    victim = next(found for found in records(demo, "CutTaken") if found.node == "pipeline")
    path = demo.directory.root / body(victim)["file"]
    state = blob_format.parse(path.read_bytes(), "the state")
    facts = {**state.metadata["facts"], "total_steps": 1}
    pieces = blob_format.parts(NamedArrays(state.arrays, {**state.metadata, "facts": facts}))
    digest, size = blob_format.checksum(pieces), blob_format.size(pieces)
    run = altered(demo, tmp_path / "run", victim.seq, checksum=digest, bytes=size)
    (tmp_path / "run" / body(victim)["file"]).write_bytes(b"".join(pieces))
    report = replay(run)
    found = report.divergence
    assert found is not None
    assert (found.sequence, found.type, found.node) == (victim.seq, "CutTaken", "pipeline")
    assert any(
        note.startswith("in the state of 'pipeline', facts.total_steps was 1, now") for note in report.notes
    )
    (tmp_path / "run" / body(victim)["file"]).unlink()
    assert any("what differs in the state cannot be said" in note for note in replay(run).notes)


def test_an_output_that_was_not_recorded_is_told_from_one_that_is_missing(
    demo: RecordedRun, tmp_path: Path
) -> None:
    victim = records(demo, "Improved")[0]

    def leave_out(found):
        if found.seq == victim.seq:
            return None
        renumbered = {
            "seq": found.seq - (found.seq > victim.seq),
            "cause": found.cause - (found.cause > victim.seq),
        }
        return msgspec.structs.replace(found, **renumbered)

    found = replay(rewritten(demo, tmp_path / "less", leave_out), ["scheduler"]).divergence
    assert found is not None
    assert (found.kind, found.type, found.cause) == ("extra", "Improved", victim.cause)

    def claim(found):
        return msgspec.structs.replace(found, node="scheduler") if found.seq == cut.seq else found

    cut = next(r for r in records(demo, "CutTaken") if r.node == "optimizer")
    found = replay(rewritten(demo, tmp_path / "more", claim), ["scheduler"]).divergence
    assert found is not None
    assert (found.kind, found.sequence, found.found) == ("missing", cut.seq, None)


def test_a_node_that_looks_at_the_clock_is_caught(tmp_path: Path) -> None:
    node = "nodes.evaluator.node=tests.runtime.impure_nodes:ClockedEvaluator"
    run = record(tmp_path / "run", DEMO, *with_validation(node))
    found = replay(run).divergence
    first = records(run, "WindowScored")[0]
    assert found is not None
    assert (found.sequence, found.node, found.field) == (first.seq, "evaluator", "std")
    assert found.expected == body(first)["std"] != found.found


def test_chance_without_a_seed_is_caught_where_it_begins(tmp_path: Path) -> None:
    node = "nodes.evaluator.node=tests.runtime.impure_nodes:MoodyEvaluator"
    run = record(tmp_path / "run", DEMO, *with_validation(node))
    found = replay(run).divergence
    third = records(run, "WindowScored", window=2)[0]
    assert found is not None
    assert (found.sequence, found.node, found.field) == (third.seq, "evaluator", "std")


def test_from_and_to_compare_a_part_and_begin_at_the_newest_cut_before_it(demo: RecordedRun) -> None:
    cut = records(demo, "CutAnnounced")[0]
    first, last = cut.seq + 20, cut.seq + 30
    report = replay(demo, first=first, last=last)
    assert (report.exit_code, report.since, report.events) == (0, cut.seq, 11)
    assert report.outputs == sum(bool(found.cause) for found in demo.records(first, last))
    assert report.unrecorded == []


def test_without_a_cut_before_it_a_part_is_reached_from_the_start(demo: RecordedRun) -> None:
    cut = records(demo, "CutAnnounced")[0]
    report = replay(demo, first=cut.seq - 2, last=cut.seq + 1)
    assert (report.exit_code, report.since, report.events) == (0, 0, 4)


def test_a_damaged_cut_is_no_place_to_begin(demo: RecordedRun, tmp_path: Path) -> None:
    shutil.copytree(demo.directory.root, tmp_path / "run")
    run = RecordedRun(tmp_path / "run")
    first, second = records(run, "CutAnnounced")
    assert replay(run, first=second.seq + 2).since == second.seq
    state = tmp_path / "run" / "cuts" / f"{body(second)['cut']:06d}" / "learner.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"!")
    report = replay(run, first=second.seq + 2)
    assert (report.exit_code, report.since) == (0, first.seq)


@pytest.mark.parametrize(("first", "last"), [(0, 3), (5, 4), (1, 100_000), (100_000, None)])
def test_a_range_that_the_run_does_not_have_is_refused(
    demo: RecordedRun, first: int, last: int | None
) -> None:
    with pytest.raises(ConfigurationError, match="expected a range within"):
        replay(demo, first=first, last=last)


def test_an_unknown_node_is_named_with_the_ones_that_are_there(demo: RecordedRun) -> None:
    with pytest.raises(ConfigurationError, match="no node 'lerner'; its nodes: validation, pipeline"):
        replay(demo, ["lerner"])


def test_arrays_that_were_not_recorded_are_listed_by_name(demo: RecordedRun, tmp_path: Path) -> None:
    shutil.copytree(demo.directory.root, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "blobs", ignore_errors=True)
    report = replay(RecordedRun(tmp_path / "run"), ["learner"])
    assert report.exit_code == 2
    assert "needs arrays that were not recorded: pipeline/window-000000" in report.obstacle
    assert "--all re-creates them" in report.obstacle
    assert report.missing[0] == "pipeline/window-000000"
    assert {f"pipeline/window-{window:06d}" for window in range(5)} <= set(report.missing)


def test_nodes_that_share_an_agent_are_played_together(tmp_path: Path) -> None:
    overrides = with_validation("run.record=events")
    run = record(tmp_path / "run", TOPOLOGIES / "custom_agent.yaml", *overrides)
    restored = records(run, "RolledBack")[0]
    report = replay(run, ["learner"], last=restored.seq - 1)
    assert report.nodes == ["validation", "pipeline", "learner"]
    assert report.exit_code == 0
    assert replay(run, ["learner"]).missing == ["checkpoint/best-000001"]
    assert any("one agent object is shared" in note for note in report.notes)


def test_a_node_that_emits_nothing_is_played_only_when_it_is_named(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(DEMO.read_text() + "  silent: {node: tests.runtime.impure_nodes:Silent}\n")
    run = record(tmp_path / "run", topology, *with_validation())
    impure_nodes.Silent.seen = 0
    report = replay(run)
    assert (report.exit_code, impure_nodes.Silent.seen) == (0, 0)
    assert any("silent left out" in note for note in report.notes)
    assert replay(run, ["silent"]).exit_code == 0
    assert impure_nodes.Silent.seen == len(records(run, "CollectWindow"))


@pytest.fixture
def fragile():
    yield impure_nodes.RAISES_AT_WINDOW
    impure_nodes.RAISES_AT_WINDOW.clear()


def test_a_failure_of_the_run_is_reproduced_and_no_difference(tmp_path: Path, fragile: list[int]) -> None:
    fragile.append(3)
    node = "nodes.checkpoint.node=tests.runtime.impure_nodes:FragileCheckpoint"
    assert attempt(tmp_path / "run", DEMO, *with_validation(node)).exit_code == 3
    run = RecordedRun(tmp_path / "run")
    report = replay(run)
    assert report.exit_code == 0
    assert f"(event {run.head}): RuntimeError: the disk has been stolen" in report.failure


def test_a_failure_that_the_run_did_not_have_is_a_difference(tmp_path: Path, fragile: list[int]) -> None:
    node = "nodes.checkpoint.node=tests.runtime.impure_nodes:FragileCheckpoint"
    run = record(tmp_path / "run", DEMO, *with_validation(node))
    fragile.append(2)
    report = replay(run)
    raised = records(run, "CollectWindow", window=2)[0]
    assert report.exit_code == 1
    assert report.divergence is not None
    assert (report.divergence.node, report.divergence.cause >= raised.seq) == ("checkpoint", True)
    assert "the disk has been stolen" in str(report.divergence)


def test_on_another_machine_floats_are_compared_within_a_tolerance(demo: RecordedRun, tmp_path: Path) -> None:
    started = records(demo, "RunStarted")[0]
    foreign = {**body(started)["fingerprint"], "processor": "Abacus"}
    run = altered(demo, tmp_path / "foreign", started.seq, fingerprint=foreign)
    scored = records(demo, "WindowScored")[1]
    digest = records(demo, "WindowCollected", purpose="train")[1]
    near = altered(run, tmp_path / "near", scored.seq, score=body(scored)["score"] * (1 + 1e-6))
    near = altered(near, tmp_path / "nearer", digest.seq, data={**body(digest)["data"], "checksum": "0" * 32})
    report = replay(near, ["scheduler", "evaluator", "validation", "pipeline", "learner", "checkpoint"])
    assert report.exit_code == 0
    assert report.tolerance > 0
    assert any("Abacus" in note and "within 0.0001" in note for note in report.notes)
    far = altered(run, tmp_path / "far", scored.seq, score=body(scored)["score"] + 1)
    found = replay(far).divergence
    assert found is not None
    assert (found.sequence, found.field) == (scored.seq, "score")


def test_a_damaged_journal_is_replayed_up_to_the_damage(demo: RecordedRun, tmp_path: Path) -> None:
    shutil.copytree(demo.directory.root, tmp_path / "run")
    victim = records(demo, "WindowScored")[2]
    journal = next((tmp_path / "run" / "journal").glob("*.mcap"))
    data = bytearray(journal.read_bytes())
    place = data.index(victim.body)
    data[place + 20] ^= 1
    journal.write_bytes(data)
    report = replay(RecordedRun(tmp_path / "run"), ["scheduler"])
    assert report.exit_code == 2
    assert "a byte has changed" in report.obstacle


def test_a_folder_without_a_journal_is_refused(demo: RecordedRun, tmp_path: Path) -> None:
    shutil.copy(demo.directory.root / "plan.json", tmp_path)
    with pytest.raises(ConfigurationError, match="holds no journal"):
        RecordedRun(tmp_path)


def test_arrays_are_kept_no_longer_than_they_are_needed(demo: RecordedRun) -> None:
    class Weigh(Watch):
        heaviest = 0

        def after(self, played, stage):
            self.heaviest = max(self.heaviest, stage.blobs.used_bytes)
            self.left = stage.blobs.used_bytes
            return True

    weigh = Weigh()
    assert replay(demo, watch=weigh).exit_code == 0
    announced = [body(r) for r in demo.records() if r.type in ("WindowCollected", "PolicyUpdated")]
    sizes = sorted((b.get("data") or b["policy"])["bytes"] for b in announced)
    assert 0 < weigh.heaviest <= sum(sizes[-3:])
    assert weigh.left == 0


def test_a_watch_can_end_a_replay(demo: RecordedRun) -> None:
    class Enough(Watch):
        def after(self, played, stage):
            return played.record.seq < 12

    report = replay(demo, watch=Enough())
    assert (report.exit_code, report.last, report.events) == (0, 12, 12)


def test_a_run_that_went_on_elsewhere_is_compared_within_a_tolerance_from_there_on(
    demo: RecordedRun, tmp_path: Path
) -> None:
    """The event that says so takes the place of one that nobody reads."""
    victim = next(found for found in records(demo, "CutTaken") if found.node == "optimizer")
    scored = records(demo, "WindowScored")

    def move(found):
        if found.seq == victim.seq:
            resumed = RunResumed(cut=1, window=1, fingerprint={"processor": "Abacus"})
            changed = {"type": "RunResumed", "body": msgspec.msgpack.encode(resumed)}
            return msgspec.structs.replace(found, node="supervisor", cause=0, index=1, **changed)
        if found.seq in (scored[0].seq, scored[-1].seq):
            near = {**body(found), "score": body(found)["score"] * (1 + 1e-9)}
            return msgspec.structs.replace(found, body=msgspec.msgpack.encode(near))
        return found

    run = rewritten(demo, tmp_path / "run", move)
    nodes = [name for name in NODES if name != victim.node]
    found = replay(run, nodes).divergence
    assert found is not None
    assert (found.sequence, found.field) == (scored[0].seq, "score")
    report = replay(run, nodes, first=scored[0].seq + 1)
    assert report.divergence == found  # what comes before has to be right as well
    report = replay(altered(run, tmp_path / "less", scored[0].seq, score=body(scored[0])["score"]), nodes)
    assert (report.exit_code, report.tolerance > 0) == (0, True)
    assert any(note.startswith(f"from event {victim.seq} on, this is not") for note in report.notes)


def test_what_a_replay_has_outside_is_gone_afterwards_whatever_happened(
    demo: RecordedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Raise(Watch):
        seen = 0

        def before(self, record, stage):
            if record.seq == 20:
                self.seen = len(list(tmp_path.iterdir()))
                raise KeyboardInterrupt

    watch = Raise()
    with pytest.raises(KeyboardInterrupt):
        replay(demo, watch=watch)
    assert watch.seen > 0
    assert list(tmp_path.iterdir()) == []
    assert replay(demo).exit_code == 0
    assert list(tmp_path.iterdir()) == []
