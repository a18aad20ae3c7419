"""What an inline run records of its arrays is what a run in processes would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optix_bus.bus import blob_files, blob_format
from optix_bus.bus.blobs import MemoryBlobStore
from optix_bus.errors import BlobMissing
from optix_bus.messages import CollectWindow, CutAnnounced, RunFinished, RunStarted, WindowCollected
from optix_bus.runtime.cuts import CutFolder
from optix_bus.runtime.inline import InlineRunner
from optix_bus.runtime.inline_blobs import InlineBlobs
from optix_bus.runtime.node import Context, Node, NoSettings, handles
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_session import replay
from optix_bus.types import NamedArrays
from tests.runtime.recorded import DEMO, body, record, records, with_validation
from tests.runtime.test_replay_lives import Maker

NODES = ("validation", "pipeline", "learner", "evaluator", "scheduler", "optimizer", "checkpoint")


def run(folder: Path, *overrides: str) -> RecordedRun:
    return record(folder / "run", DEMO, *with_validation(*overrides))


def announced(recorded: RecordedRun) -> dict[str, int]:
    """Sizes of all arrays, by name."""
    bodies = [body(found) for found in recorded.records()]
    refs = [value for each in bodies for key, value in each.items() if key in ("data", "policy") and value]
    return {ref["name"]: ref["bytes"] for ref in refs}


def files(recorded: RecordedRun) -> dict[str, int]:
    root = recorded.directory.blobs
    return {
        path.relative_to(root).as_posix().removesuffix(".safetensors"): path.stat().st_size
        for path in root.rglob("*.safetensors")
    }


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    return run(tmp_path_factory.mktemp("blobs"), "run.record=blobs")


@pytest.mark.parametrize("node", NODES)
def test_each_node_is_replayed_by_itself_from_what_was_recorded(everything: RecordedRun, node: str) -> None:
    report = replay(everything, [node])
    assert (report.exit_code, report.divergence, report.obstacle) == (0, None, "")
    assert report.outputs == sum(found.node == node for found in everything.records() if found.cause)


def test_everything_that_was_announced_is_recorded_as_it_was(everything: RecordedRun) -> None:
    assert files(everything) == announced(everything)
    for found in records(everything, "WindowCollected"):
        ref = body(found)["data"]
        path = everything.directory.blobs / f"{ref['name']}.safetensors"
        assert blob_format.checksum([memoryview(path.read_bytes())]) == ref["checksum"]


def test_as_many_bytes_as_there_is_room_for_and_none_where_only_events_are_wanted(tmp_path: Path) -> None:
    some = run(tmp_path / "some", "run.record=auto", "run.record_bytes=40000")
    kept = files(some)
    owners = {name.partition("/")[0] for name in announced(some)}
    for owner in owners:
        held = sum(size for name, size in kept.items() if name.startswith(f"{owner}/"))
        assert 0 < held <= 40000 or owner in ("learner", "checkpoint")  # one policy takes more than that
    assert len(kept) < len(announced(some))
    assert files(run(tmp_path / "none", "run.record=events")) == {}


class Driver(Node):
    """Announces a cut while somebody else collects, and ends the run a little later."""

    emits = (CutAnnounced, CollectWindow, RunFinished)

    @handles(RunStarted)
    def on_start(self, event: RunStarted, ctx: Context) -> None:
        ctx.emit(CollectWindow(window=1, policy_version=0, hyperparams_version=0, evaluate=False))

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        ctx.emit(CutAnnounced(cut=1, window=1))

    @handles(WindowCollected)
    def on_collected(self, event: WindowCollected, ctx: Context) -> None:
        names = ("windows", "steps", "evaluations", "best_policy_version", "best_window")
        scores = ("best_score", "best_standard_error", "train_score", "generalization_gap")
        numbers = {**dict.fromkeys(names, 0), **dict.fromkeys(scores, 0.0)}
        ctx.emit(RunFinished(reason="done", state="", decided_by_loop=True, **numbers))  # type: ignore[arg-type]


def test_what_is_under_way_at_a_cut_is_kept_for_whoever_goes_on_from_there(tmp_path: Path) -> None:
    """Announced before the cut by a node that will not do so again, read after it."""
    kept: list[str] = []
    journal: list[str] = []
    InlineRunner(
        {"driver": Driver(), "maker": Maker(NoSettings())},
        stores=lambda _: MemoryBlobStore(),
        listener=lambda envelope: journal.append(type(envelope.event).__name__),
        cuts=CutFolder(tmp_path),
        persist=lambda ref: kept.append(ref.name),
    ).run()
    assert journal[:4] == ["RunStarted", "CollectWindow", "CutAnnounced", "WindowCollected"]
    assert kept == ["maker/window-000001"]


def test_it_is_kept_also_where_only_events_are_recorded(tmp_path: Path) -> None:
    recorded = run(tmp_path, "run.record=events")
    blobs = InlineBlobs(recorded.directory, recorded.plan)
    ref = blobs.write("pipeline/window-000009", NamedArrays({"x": np.arange(3.0)}))
    assert files(recorded) == {}
    blobs.persist(ref)
    blobs.persist(ref)
    blobs.retire(ref.name)
    assert files(recorded) == {ref.name: ref.bytes}
    with pytest.raises(BlobMissing):
        blobs.read(ref)


def test_a_full_disk_costs_the_arrays_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = blob_files.write

    def full(directory: str, name: str, *content: Any, **options: Any) -> str:
        if name == "pipeline/window-000002":
            raise OSError(28, "No space left on device")
        return right(directory, name, *content, **options)

    monkeypatch.setattr(blob_files, "write", full)
    recorded = run(tmp_path, "run.record=blobs")
    kept = [name for name in files(recorded) if name.startswith("pipeline/")]
    assert sorted(kept) == ["pipeline/window-000000", "pipeline/window-000001"]
    assert "blobs are not recorded any longer" in capsys.readouterr().out
    assert replay(recorded).exit_code == 0
