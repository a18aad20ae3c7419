"""A fork is laid out: the same past, other settings, and nothing of the original changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from optix_bus.bus.journal_reader import read_journal
from optix_bus.checkpoints import manifest as manifests
from optix_bus.errors import ConfigurationError, JournalError
from optix_bus.runtime.cuts import CutFolder
from optix_bus.runtime.fork import before_window, fork
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.resume import prepare
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.site import build_nodes
from tests.bus.journals import place_of
from tests.runtime.deaths import blobs_of, died, first, stored

SLOWER = "agent.hyperparameters.learning_rate=1e-5"


def laid_out(
    source: RunDirectory, folder: Path, at: int, overrides: Sequence[str] = (), branch: int = 0
) -> RunDirectory:
    target = RunDirectory.create(folder)
    fork(source, target, at, overrides, branch=branch)
    return target


def plan_of(run: RunDirectory) -> RunPlan:
    plan = RunPlan.read(run.root / "plan.json")
    return msgspec.structs.replace(plan, run_directory=str(run.root))


def rate(plan: RunPlan) -> float:
    return float(plan.agent["hyperparameters"]["learning_rate"])


def rewrite(path: Path, line: str, new: str) -> None:
    text, count = re.subn(line, new, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def middle(repeating: RecordedRun) -> int:
    """The learner has learnt from the fifth window, which nobody has judged."""
    return first(repeating.directory, "PolicyUpdated", window=4)


# -- what it is made of --------------------------------------------------------------------------------------


def test_it_has_the_past_of_its_original_and_begins_at_the_newest_cut_before_the_fork_point(
    repeating: RecordedRun, middle: int, tmp_path: Path
) -> None:
    source = repeating.directory
    target = laid_out(source, tmp_path / "fork", middle)
    then, now = list(read_journal(source.journal)), list(read_journal(target.journal))
    assert now[:middle] == then[:middle]
    assert all(0 < record.cause <= middle for record in now[middle:])
    assert stored(target.root / "cuts") == {
        name: content if not name.endswith("cut.json") else stored(target.root / "cuts")[name]
        for name, content in stored(source.root / "cuts").items()
        if name.startswith("000002/")
    }
    record = target.read()
    assert (record.state, record.supervisor.alive(), record.exit_code) == ("forked", False, None)
    assert record.run_id != source.read().run_id
    found = prepare(target)
    assert found.cut is not None
    assert (found.cut.number, found.head, found.started) == (2, len(now), True)


def test_nothing_of_the_original_is_changed_also_where_it_has_many_files(
    repeating: RecordedRun, middle: int, tmp_path: Path
) -> None:
    """What was noted of places in its journal holds for its own alone."""
    source = died(repeating.directory.root, tmp_path / "source", repeating.head - 1)
    for place in CutFolder(source.root).places():
        near = (place.sequence, *place_of(source.journal, place.sequence))
        path = source.root / "cuts" / f"{place.cut:06d}" / "cut.json"
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(place, near=near)))
    before = stored(source.root)
    target = laid_out(source, tmp_path / "fork", middle, [SLOWER], branch=3)
    (target.blobs / "learner" / "new.safetensors").write_bytes(b"of the fork")
    prepare(target)
    assert stored(source.root) == before
    assert [place.near for place in CutFolder(target.root).places()] == [None]


def test_before_the_first_cut_it_begins_at_the_first_event(repeating: RecordedRun, tmp_path: Path) -> None:
    at = first(repeating.directory, "PolicyUpdated", window=0)
    found = prepare(laid_out(repeating.directory, tmp_path / "fork", at))
    assert (found.cut, found.head >= at) == (None, True)
    nothing = prepare(laid_out(repeating.directory, tmp_path / "nothing", 0))
    assert (nothing.cut, nothing.head, nothing.started) == (None, 0, False)


def test_a_damaged_cut_is_passed_over(repeating: RecordedRun, middle: int, tmp_path: Path) -> None:
    source = died(repeating.directory.root, tmp_path / "source", repeating.head)
    (source.root / "cuts" / "000002" / "learner.safetensors").write_bytes(b"")
    found = prepare(laid_out(source, tmp_path / "fork", middle))
    assert found.cut is not None
    assert found.cut.number == 1


def test_recorded_arrays_behind_its_cut_are_its_own_too(
    repeating: RecordedRun, middle: int, tmp_path: Path
) -> None:
    source = died(repeating.directory.root, tmp_path / "source", repeating.head)
    target = laid_out(source, tmp_path / "fork", middle)
    cut = first(source, "CutAnnounced", cut=2)
    needed = {n for record in read_journal(target.journal) if record.seq > cut for n in blobs_of(record)}
    assert needed
    assert stored(target.blobs) == {name: name.encode() for name in needed}


def test_snapshots_of_its_past_are_its_own_and_say_so(
    repeating: RecordedRun, middle: int, tmp_path: Path
) -> None:
    """Also where the original keeps them elsewhere; one that is damaged stays for others to name."""
    source = RunDirectory(tmp_path / "source")
    shutil.copytree(repeating.directory.root, source.root)
    saved = {
        msgspec.msgpack.decode(record.body)["snapshot_id"]: record.seq
        for record in read_journal(source.journal)
        if record.type == "SnapshotSaved"
    }
    kept = {name for name, seq in saved.items() if seq <= middle}
    assert kept
    elsewhere = tmp_path / "elsewhere"
    shutil.move(source.root / "checkpoints", elsewhere)
    rewrite(source.topology, r"^    directory:.*$", f"    directory: {elsewhere}")
    plan = msgspec.json.decode((source.root / "plan.json").read_bytes())
    next(n for n in plan["nodes"] if n["name"] == "checkpoint")["settings"]["directory"] = str(elsewhere)
    (source.root / "plan.json").write_bytes(msgspec.json.encode(plan))
    before = stored(elsewhere)
    target = laid_out(source, tmp_path / "fork", middle)
    assert plan_of(target).checkpoint_directory(target.root) == target.root / "checkpoints"
    assert {path.name for path in target.checkpoints.iterdir() if path.is_dir()} >= kept
    for name in kept:
        assert manifests.read(target.checkpoints / name).run == target.read().run_id
        assert stored(target.checkpoints / name / "weights") == stored(elsewhere / name / "weights")
    assert stored(elsewhere) == before
    damaged = elsewhere / next(iter(kept)) / manifests.FILE
    damaged.write_text("{")
    other = laid_out(source, tmp_path / "other", middle)
    assert (other.checkpoints / damaged.parent.name / manifests.FILE).read_text() == "{"


# -- its settings --------------------------------------------------------------------------------------------


def test_the_past_is_handled_under_the_old_settings_and_the_future_under_the_new(
    repeating: RecordedRun, middle: int, tmp_path: Path
) -> None:
    target = laid_out(repeating.directory, tmp_path / "fork", middle, [SLOWER], branch=2)
    plan = plan_of(target)
    assert plan.boundaries == {middle}
    before, after = plan.as_of(middle - 1), plan.as_of(middle)
    assert (rate(before), before.branch) == (rate(repeating.plan), 0)
    assert (rate(after), after.branch) == (1e-5, 2)
    # Either is a plan of this run: its places and its name.
    assert before.run_id == after.run_id == target.read().run_id
    assert before.run_directory == str(target.root)


def test_the_learner_says_what_is_new_to_its_state(
    repeating: RecordedRun, middle: int, tmp_path: Path
) -> None:
    target = laid_out(repeating.directory, tmp_path / "fork", middle, [SLOWER])
    cut = prepare(target).cut
    assert cut is not None
    state = CutFolder(target.root).read(cut.taken["learner"])
    plan = plan_of(target)
    said = []
    for moment in (cut.sequence, middle):
        node = build_nodes(plan.as_of(moment), "learner")["learner"]
        node.setup()
        said.append(list(node.load_state(state)))
        node.teardown()
    assert said == [[], ["learning_rate is 1e-05 after the next window, as the topology says now"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("seed=9", r"the seed of a run \(0\) is part of its past"),
        ("agent.hidden_sizes=[16]", "^agent.hidden_sizes cannot change in a fork"),
        ("environment.id=Acrobot-v1", "^environment.id cannot change in a fork"),
    ],
)
def test_what_the_past_was_made_for_cannot_change(
    repeating: RecordedRun, middle: int, tmp_path: Path, change: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        laid_out(repeating.directory, tmp_path / "fork", middle, [change])
    assert sorted(path.name for path in (tmp_path / "fork").iterdir()) == ["failures", "journal", "logs"]


def test_other_nodes_cannot_take_part(repeating: RecordedRun, middle: int, tmp_path: Path) -> None:
    source = RunDirectory(tmp_path / "source")
    shutil.copytree(repeating.directory.root, source.root)
    rewrite(source.topology, r"^  optimizer:.*$", "  tuner:")
    with pytest.raises(ConfigurationError, match="has the nodes of its original"):
        laid_out(source, tmp_path / "fork", middle)


# -- the fork point ------------------------------------------------------------------------------------------


def test_the_event_before_a_window_is_found(repeating: RecordedRun) -> None:
    asked = first(repeating.directory, "CollectWindow", window=3)
    assert before_window(repeating.directory, 3) == asked - 1
    with pytest.raises(ConfigurationError, match="has no window 8"):
        before_window(repeating.directory, 8)


def test_there_is_nothing_to_fork_where_the_run_is_over_or_has_not_been(
    repeating: RecordedRun, tmp_path: Path
) -> None:
    decided = next(r.cause for r in read_journal(repeating.directory.journal) if r.type == "RunFinished")
    for at in (repeating.head, decided):
        with pytest.raises(ConfigurationError, match=f"by event {at} the end of the run was decided"):
            laid_out(repeating.directory, tmp_path / str(at), at)
    with pytest.raises(JournalError, match=f"{repeating.head + 1} was asked for"):
        laid_out(repeating.directory, tmp_path / "beyond", repeating.head + 1)
    laid_out(repeating.directory, tmp_path / "just", decided - 1)


def test_a_run_that_cannot_repeat_itself_branches_off_at_its_cuts_only(
    forgetful: RecordedRun, tmp_path: Path
) -> None:
    source = forgetful.directory
    cuts = [first(source, "CutAnnounced", cut=number) for number in (1, 2, 3)]
    places = ", ".join(map(str, cuts))
    for at in (cuts[1] + 1, cuts[0] - 1, 1):
        with pytest.raises(
            ConfigurationError, match=f"keeps more than a cut can hold.* one at event {places}"
        ):
            laid_out(source, tmp_path / str(at), at)
    assert before_window(source, 4) == cuts[1]
    target = laid_out(source, tmp_path / "fork", cuts[1])
    head = len(list(read_journal(target.journal)))
    found = prepare(target)
    # It has nothing to repeat that it could not, so nothing of its past is set aside.
    assert (found.head, found.remarks) == (head, [])
    assert found.cut is not None
    assert found.cut.sequence == cuts[1]


# -- a fork of a fork ----------------------------------------------------------------------------------------


@pytest.fixture
def branch(repeating: RecordedRun, middle: int, tmp_path: Path) -> RunDirectory:
    """A fork whose settings changed in the middle, and that has gone on as the original did."""
    source = died(repeating.directory.root, tmp_path / "whole", repeating.head)
    target = laid_out(repeating.directory, tmp_path / "branch", middle, [SLOWER], branch=1)
    shutil.rmtree(target.journal)
    shutil.copytree(source.journal, target.journal)
    shutil.rmtree(target.root / "cuts")
    shutil.copytree(source.root / "cuts", target.root / "cuts")
    return target


def test_a_later_fork_of_a_fork_has_two_pasts(
    repeating: RecordedRun, branch: RunDirectory, middle: int, tmp_path: Path
) -> None:
    later = first(repeating.directory, "PolicyUpdated", window=6)
    change = "agent.hyperparameters.learning_rate=1e-6"
    plan = plan_of(laid_out(branch, tmp_path / "fork", later, [change]))
    assert plan.boundaries == {middle, later}
    futures = [plan.as_of(at) for at in (0, middle - 1, middle, later - 1, later, 10**6)]
    old = rate(repeating.plan)
    assert [rate(p) for p in futures] == [old, old, 1e-5, 1e-5, 1e-6, 1e-6]
    assert [p.branch for p in futures] == [0, 0, 1, 1, 0, 0]
    assert {p.run_id for p in futures} == {plan.run_id}


def test_a_fork_can_be_forked_where_it_branched_off_itself(
    repeating: RecordedRun, branch: RunDirectory, middle: int, tmp_path: Path
) -> None:
    """The event itself was handled under the settings of the original."""
    target = laid_out(branch, tmp_path / "fork", middle, branch=2)
    plan = plan_of(target)
    assert plan.boundaries == {middle}
    assert [(rate(p), p.branch) for p in (plan.as_of(middle - 1), plan.as_of(middle))] == [
        (rate(repeating.plan), 0),
        (1e-5, 2),
    ]


def test_a_fork_can_be_forked_in_the_past_that_it_has_from_its_original(
    repeating: RecordedRun, branch: RunDirectory, middle: int, tmp_path: Path
) -> None:
    """Before that event the settings were those of the original; from there on those of the fork hold."""
    earlier = first(repeating.directory, "PolicyUpdated", window=2)
    target = laid_out(branch, tmp_path / "fork", earlier)
    plan = plan_of(target)
    assert plan.boundaries == {earlier}
    assert [rate(plan.as_of(at)) for at in (0, earlier - 1, earlier, middle)] == [
        rate(repeating.plan),
        rate(repeating.plan),
        1e-5,
        1e-5,
    ]
    assert sorted(path.name for path in target.root.glob("plan*")) == [
        "plan.json",
        f"plan.until-{earlier}.json",
    ]


def test_a_fork_that_was_moved_can_be_forked(branch: RunDirectory, middle: int, tmp_path: Path) -> None:
    moved = RunDirectory(tmp_path / "moved")
    shutil.move(branch.root, moved.root)
    assert plan_of(laid_out(moved, tmp_path / "fork", middle + 3)).boundaries == {middle, middle + 3}
