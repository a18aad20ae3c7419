from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.checkpoints import CheckpointRegistry, durable, manifest
from optix_bus.errors import CheckpointError
from optix_bus.types import EvalMetrics, HyperparamSet, NamedArrays

PARAMS = HyperparamSet({"learning_rate": 3e-4, "n_epochs": 10})


class FileAgent:
    """Six methods only; saves one text file."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def save_weights(self, path: str) -> None:
        Path(path).write_text(str(self.value))

    def load_weights(self, path: str) -> None:
        self.value = float(Path(path).read_text())

    def average_weights(self, paths: list[str]) -> None:
        self.value = float(np.mean([float(Path(path).read_text()) for path in paths]))


class FolderAgent(FileAgent):
    """Saves a folder of files, as agents with several networks do."""

    def save_weights(self, path: str) -> None:
        Path(path).mkdir()
        for name in ("actor", "critic"):
            (Path(path) / f"{name}.txt").write_text(str(self.value))

    def load_weights(self, path: str) -> None:
        self.value = float((Path(path) / "critic.txt").read_text())


class SuffixAgent(FileAgent):
    """np.savez adds a suffix of its own."""

    def save_weights(self, path: str) -> None:
        np.savez(path, value=self.value)

    def load_weights(self, path: str) -> None:
        with np.load(path + ".npz") as content:
            self.value = float(content["value"])


def arrays(value: float) -> NamedArrays:
    return NamedArrays({"actor.weight": np.full((2, 3), value, np.float32)}, {"policy": {"kind": "mlp"}})


def metrics(score: float, window: int = 0) -> EvalMetrics:
    return EvalMetrics(score, {"n": 20.0, "standard_error": float("nan")}, window, 1.5)


def fill(directory: Path, scores: list[float], **options: Any) -> CheckpointRegistry:
    registry = CheckpointRegistry(directory, run_id="a", **options)
    for number, score in enumerate(scores):
        registry.save_policy(arrays(score), metrics(score, number), PARAMS, policy_version=number)
    return registry


def spoil(registry: CheckpointRegistry, index: int) -> str:
    """Change one byte in the middle of the weights of the snapshot with this rank."""
    snapshot = registry.snapshots[index]
    path = Path(snapshot.weights_path) / "agent.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return snapshot.snapshot_id


@pytest.mark.parametrize("agent_type", [FileAgent, FolderAgent, SuffixAgent])
def test_an_agent_with_the_six_methods_is_saved_in_its_own_form_and_given_back(tmp_path, agent_type):
    registry = CheckpointRegistry(tmp_path)
    snapshot = registry.save(agent_type(4.5), metrics(10.0, 7), PARAMS)
    agent = agent_type()
    assert registry.load_best(agent).snapshot_id == snapshot.snapshot_id
    assert agent.value == 4.5
    direct = agent_type()
    direct.load_weights(snapshot.weights_path)
    assert direct.value == 4.5
    assert "opaque" in registry.load(snapshot).arrays


def test_named_arrays_come_back_to_the_bit_with_their_metadata(tmp_path):
    registry = fill(tmp_path, [3.25])
    loaded = registry.load(registry.best)
    assert loaded.arrays["actor.weight"].dtype == np.float32
    assert loaded.arrays["actor.weight"].tobytes() == arrays(3.25).arrays["actor.weight"].tobytes()
    assert loaded.metadata == {"policy": {"kind": "mlp"}}


def test_an_agent_with_load_state_gets_the_arrays(tmp_path):
    class ArrayAgent:
        def load_state(self, state: NamedArrays) -> None:
            self.got = state

    agent = ArrayAgent()
    fill(tmp_path, [1.0, 2.0]).load_best(agent)
    assert agent.got.arrays["actor.weight"][0, 0] == 2.0


def test_a_snapshot_remembers_score_parameters_version_and_lineage_over_a_restart(tmp_path):
    first = fill(tmp_path, [1.0, 2.0, 1.5])
    again = CheckpointRegistry(tmp_path, run_id="a")
    assert again.best.eval_metrics.primary_score == 2.0
    assert again.best.policy_version == 1
    assert again.best.hyperparams.params == PARAMS.params
    assert math.isnan(again.best.eval_metrics.standard_error)
    last = again.snapshots[1]
    assert last.eval_metrics.primary_score == 1.5
    assert again.lineage(last) == [again.best.snapshot_id, again.snapshots[2].snapshot_id]
    assert again.sha256(last) == first.sha256(last)
    assert (tmp_path / again.relative(last)).is_dir()


def test_the_best_ten_stay_and_the_best_is_never_deleted(tmp_path):
    registry = fill(tmp_path, [50.0, *range(20)], max_snapshots=3)
    kept = [s.eval_metrics.primary_score for s in registry.snapshots]
    assert kept == [50.0, 19.0, 18.0]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(s.snapshot_id for s in registry.snapshots)


def test_a_snapshot_that_was_just_saved_exists_even_when_it_scores_badly(tmp_path):
    registry = fill(tmp_path, [3.0, 2.0], max_snapshots=1)
    snapshot = registry.save_policy(arrays(0.0), metrics(1.0), PARAMS)
    assert Path(snapshot.weights_path).is_dir()
    assert registry.best.eval_metrics.primary_score == 3.0


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1, max_size=8), st.integers(1, 4)
)
@settings(max_examples=25, deadline=None)
def test_whatever_the_order_of_scores_the_best_is_kept(tmp_path_factory, scores, limit):
    registry = fill(tmp_path_factory.mktemp("run"), scores, max_snapshots=limit)
    finite = [s for s in scores if not math.isnan(s)]
    found = registry.best.eval_metrics.primary_score
    assert found == max(finite) if finite else math.isnan(found)
    assert len(registry.snapshots) <= limit + 1


def test_of_equal_scores_the_older_leads(tmp_path):
    registry = fill(tmp_path, [5.0, 5.0, 5.0])
    assert registry.best.policy_version == 0


def test_a_truncated_manifest_spoils_only_its_own_snapshot(tmp_path):
    registry = fill(tmp_path, [1.0, 2.0, 3.0])
    path = tmp_path / registry.best.snapshot_id / manifest.FILE
    path.write_bytes(path.read_bytes()[:100])
    again = CheckpointRegistry(tmp_path, run_id="a")
    assert [s.eval_metrics.primary_score for s in again.snapshots] == [2.0, 1.0]
    assert len(again.damaged) == 1
    assert str(path) in again.damaged[0]


def test_an_altered_score_in_a_manifest_is_noticed(tmp_path):
    registry = fill(tmp_path, [1.0, 2.0])
    path = tmp_path / registry.snapshots[1].snapshot_id / manifest.FILE
    document = json.loads(path.read_text())
    document["manifest"]["score"] = 1e9
    path.write_text(json.dumps(document))
    again = CheckpointRegistry(tmp_path, run_id="a")
    assert again.best.eval_metrics.primary_score == 2.0
    assert "checksum" in again.damaged[0]


def test_damaged_weights_fall_back_to_the_next_best_and_are_named(tmp_path):
    registry = fill(tmp_path, [1.0, 2.0, 3.0])
    name = spoil(registry, 0)
    snapshot, policy = registry.restore_best()
    assert snapshot.eval_metrics.primary_score == 2.0
    assert policy.arrays["actor.weight"][0, 0] == 2.0
    assert name in registry.damaged[0]
    assert "agent.safetensors" in registry.damaged[0]


@pytest.mark.parametrize("length", [0, 10, -1])
def test_truncated_weights_fall_back_too(tmp_path, length):
    registry = fill(tmp_path, [1.0, 2.0])
    path = Path(registry.best.weights_path) / "agent.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    again = CheckpointRegistry(tmp_path, run_id="a")
    assert again.restore_best()[0].eval_metrics.primary_score == 1.0


def test_missing_weights_are_noticed_when_the_folder_is_opened(tmp_path):
    registry = fill(tmp_path, [1.0, 2.0])
    (Path(registry.best.weights_path) / "agent.safetensors").unlink()
    again = CheckpointRegistry(tmp_path, run_id="a")
    assert again.best.eval_metrics.primary_score == 1.0
    assert "lacks" in again.damaged[0]


def test_when_everything_is_damaged_the_error_names_all_of_it(tmp_path):
    registry = fill(tmp_path, [1.0, 2.0])
    names = [spoil(registry, 0), spoil(registry, 1)]
    with pytest.raises(CheckpointError) as caught:
        registry.load_best(FileAgent())
    assert all(name in str(caught.value) for name in names)


def test_an_empty_registry_has_no_best(tmp_path):
    registry = CheckpointRegistry(tmp_path / "new")
    assert registry.best is None
    assert registry.load_best(FileAgent()) is None
    assert registry.load_ensemble(FileAgent()) == []
    assert not (tmp_path / "new").exists()


def test_a_folder_with_another_runs_snapshots_is_refused(tmp_path):
    fill(tmp_path, [9.0])
    with pytest.raises(CheckpointError, match=r"another run \(a\).*resume=True"):
        CheckpointRegistry(tmp_path, run_id="b")


def test_a_resumed_run_goes_on_from_the_others_best_and_replaces_nothing(tmp_path):
    fill(tmp_path, [9.0, 2.0])
    registry = CheckpointRegistry(tmp_path, run_id="b", resume=True)
    assert registry.best.eval_metrics.primary_score == 9.0
    old = registry.best.snapshot_id
    new = registry.save_policy(arrays(0.5), metrics(0.5), PARAMS, policy_version=0, sequence=1)
    assert new.snapshot_id != old
    assert registry.best.snapshot_id == old
    assert registry.load(registry.best).arrays["actor.weight"][0, 0] == 9.0
    assert registry.manifest(new).parent == old


def test_the_same_promotion_executed_twice_leaves_one_snapshot(tmp_path):
    registry = CheckpointRegistry(tmp_path, run_id="a")
    first = registry.save_policy(arrays(1.0), metrics(1.0), PARAMS, 3, sequence=17)
    digest, parent = registry.sha256(first), registry.manifest(first).parent
    again = CheckpointRegistry(tmp_path, run_id="a")
    second = again.save_policy(arrays(1.0), metrics(1.0), PARAMS, 3, sequence=17)
    assert second.snapshot_id == first.snapshot_id
    assert (again.sha256(second), again.manifest(second).parent) == (digest, parent)
    assert len(again.snapshots) == 1


def content(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def promote(registry: CheckpointRegistry, scores: list[float], first: int = 0) -> None:
    """Save as the checkpoint node does: it knows numbers and parents by itself."""
    for number in range(first, len(scores)):
        best = max(range(number), key=lambda n: scores[n], default=None)
        parent = "" if best is None else f"{best:08d}-v{best:06d}"
        score = metrics(scores[number], number)
        registry.save_policy(arrays(scores[number]), score, PARAMS, number, sequence=number, parent=parent)


@pytest.mark.parametrize("again", [0, 1, 3, 5])
@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [9.0, 1.0, 8.0, 2.0, 7.0, 0.0]])
def test_saving_old_policies_again_after_newer_ones_changes_nothing_in_the_end(tmp_path, scores, again):
    promote(CheckpointRegistry(tmp_path, 2, run_id="a"), scores)
    before = content(tmp_path)
    registry = CheckpointRegistry(tmp_path, 2, run_id="a")
    for number in range(again, len(scores)):
        promote(registry, scores[: number + 1], number)
        assert before.items() <= content(tmp_path).items()  # nothing newer is destroyed on the way
    assert content(tmp_path) == before


def test_the_same_promotion_writes_the_same_bytes_whatever_lies_on_disk(tmp_path):
    promote(CheckpointRegistry(tmp_path / "a", run_id="a"), [1.0])
    other = CheckpointRegistry(tmp_path / "b", run_id="a")
    promote(other, [1.0, 5.0, 9.0])
    promote(other, [1.0])
    name = "00000000-v000000"
    assert content(tmp_path / "a" / name) == content(tmp_path / "b" / name)


def test_a_full_disk_is_said_clearly_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    registry = fill(tmp_path, [1.0])
    before = sorted(tmp_path.rglob("*"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(CheckpointError, match="the disk is full"):
        registry.save_policy(arrays(2.0), metrics(2.0), PARAMS)
    monkeypatch.undo()
    assert sorted(tmp_path.rglob("*")) == before
    assert registry.best.eval_metrics.primary_score == 1.0
    registry.save_policy(arrays(2.0), metrics(2.0), PARAMS)
    assert registry.best.eval_metrics.primary_score == 2.0


def test_a_failed_replacement_keeps_the_old_version(tmp_path, monkeypatch):
    registry = CheckpointRegistry(tmp_path, run_id="a")
    registry.save_policy(arrays(1.0), metrics(1.0), PARAMS, sequence=5)
    rename, calls = durable.os.rename, []

    def second_fails(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(durable.os, "rename", second_fails)
    with pytest.raises(CheckpointError, match="Input/output"):
        registry.save_policy(arrays(7.0), metrics(7.0), PARAMS, sequence=5)
    monkeypatch.undo()
    assert CheckpointRegistry(tmp_path, run_id="a").restore_best()[1].arrays["actor.weight"][0, 0] == 1.0


def test_what_a_killed_writer_left_is_ignored_and_swept_at_the_next_save(tmp_path):
    registry = fill(tmp_path, [1.0])
    dead = tmp_path / ".00000009.999999999.partial"
    dead.mkdir()
    (dead / "weights").write_text("half")
    again = CheckpointRegistry(tmp_path, run_id="a")
    assert [s.snapshot_id for s in again.snapshots] == [registry.best.snapshot_id]
    assert again.damaged == []
    again.save_policy(arrays(2.0), metrics(2.0), PARAMS)
    assert not dead.exists()


def test_a_replacement_that_was_killed_between_its_two_renames_is_undone(tmp_path):
    registry = fill(tmp_path, [1.0])
    home = tmp_path / registry.best.snapshot_id
    home.rename(tmp_path / f".{home.name}.999999999.old.partial")
    durable.sweep(tmp_path)
    assert CheckpointRegistry(tmp_path, run_id="a").best.eval_metrics.primary_score == 1.0


def test_the_ensemble_averages_the_best_within_the_band(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    for score in (100.0, 95.0, 91.0, 89.0):
        registry.save(FileAgent(score), metrics(score), PARAMS)
    agent = FileAgent()
    used = registry.load_ensemble(agent, top_k=3, score_band=0.1)
    assert [s.eval_metrics.primary_score for s in used] == [100.0, 95.0, 91.0]
    assert agent.value == pytest.approx((100 + 95 + 91) / 3)
    assert len(registry.load_ensemble(agent, top_k=2)) == 2
    assert agent.value == 97.5
    assert len(registry.load_ensemble(agent, top_k=3, score_band=0.01)) == 1
    assert agent.value == 100.0


def test_the_band_works_for_negative_scores(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    for score in (-100.0, -109.0, -111.0):
        registry.save(FileAgent(score), metrics(score), PARAMS)
    assert len(registry.load_ensemble(FileAgent(), top_k=3, score_band=0.1)) == 2


def test_a_damaged_member_stays_out_of_the_ensemble(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    for score in (10.0, 9.9, 9.8):
        registry.save(FileAgent(score), metrics(score), PARAMS)
    Path(registry.snapshots[1].weights_path).write_text("1000")
    agent = FileAgent()
    assert len(registry.load_ensemble(agent)) == 2
    assert agent.value == pytest.approx(9.9)


def test_a_hyperparameter_that_is_no_json_value_is_an_error_that_says_so(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    with pytest.raises(CheckpointError, match="no JSON value"):
        registry.save_policy(arrays(1.0), metrics(1.0), HyperparamSet({"f": object()}))
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_are_hyperparameters_like_others(tmp_path):
    registry = CheckpointRegistry(tmp_path, run_id="a")
    registry.save_policy(arrays(1.0), metrics(1.0), HyperparamSet({"lr": np.float32(0.5), "k": np.int64(3)}))
    assert CheckpointRegistry(tmp_path, run_id="a").best.hyperparams.params == {"lr": 0.5, "k": 3}
