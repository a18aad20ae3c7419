"""Forks of a recorded run: the same without a change, another from the fork point on with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.processes.runs import TOPOLOGIES, command, journal, leftovers, streams, up, weights

pytestmark = pytest.mark.processes

SMALL = tuple(
    argument
    for setting in (
        "nodes.scheduler.max_episodes=9",
        "nodes.scheduler.cut_windows=2",
        "nodes.pipeline.environments=2",
        "nodes.pipeline.window_steps=64",
        "nodes.validation.episodes=4",
        "nodes.validation.environments=4",
    )
    for argument in ("--set", setting)
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("original") / "run"
    done = up(TOPOLOGIES / "cartpole_ppo.yaml", run, *SMALL, "--seed", "5")
    assert done.code == 0, done.err
    return run


def middle(run: Path) -> int:
    """An event that is no window boundary: the second half of the fifth window."""
    return next(
        event["seq"]
        for event in journal(run)
        if event["type"] == "PolicyUpdated" and event["body"]["window"] == 4
    )


def fork(original: Path, new: Path, *arguments: str) -> str:
    done = command("fork", str(original), "--run-dir", str(new), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbered(run: Path, node: str) -> list[tuple[int, str, Any]]:
    return [(e["seq"], e["type"], repr(e["body"])) for e in journal(run) if e["node"] == node]


def learned(run: Path) -> list[str]:
    """Checksums of the policies, in their order."""
    return [
        event["body"]["policy"]["checksum"]
        for event in journal(run)
        if event["type"] == "PolicyUpdated" and event["body"]["origin"] == "learned"
    ]


def test_without_a_change_the_original_is_reproduced_to_its_end(original: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in original.rglob("*") if path.is_file()}
    for name, where in (("middle", ["--at", str(middle(original))]), ("boundary", ["--at-window", "5"])):
        fork(original, tmp_path / name, *where)
        assert streams(tmp_path / name) == streams(original)
        assert weights(tmp_path / name) == weights(original)
        assert leftovers(tmp_path / name) == []
    assert {path: path.read_bytes() for path in original.rglob("*") if path.is_file()} == before


def test_with_a_change_it_differs_from_the_fork_point_on_and_nowhere_before(
    original: Path, tmp_path: Path
) -> None:
    at = middle(original)
    change = "agent.hyperparameters.learning_rate=1e-4"
    fork(original, tmp_path / "new", "--at", str(at), "--set", change)
    for node in streams(original):
        then, now = numbered(original, node), numbered(tmp_path / "new", node)
        past = [event for event in then if event[0] <= at]
        assert now[: len(past)] == past, node
    changed = [e["body"] for e in journal(tmp_path / "new") if e["type"] == "HyperparametersChanged"]
    assert any(body["params"]["learning_rate"] == 1e-4 for body in changed)
    assert learned(tmp_path / "new")[:5] == learned(original)[:5]
    assert all(a != b for a, b in zip(learned(tmp_path / "new")[5:], learned(original)[5:], strict=True))


@pytest.mark.slow  # tests/runtime/test_fork.py has it without processes
def test_a_fork_can_be_forked(original: Path, tmp_path: Path) -> None:
    fork(original, tmp_path / "first", "--at-window", "3")
    fork(tmp_path / "first", tmp_path / "second", "--at-window", "6")
    assert streams(tmp_path / "second") == streams(original)


@pytest.mark.slow  # four whole runs
def test_the_price_of_a_decision_has_an_interval(original: Path, tmp_path: Path) -> None:
    done = command(
        "fork",
        str(original),
        "--at-window",
        "6",
        "--set",
        "agent.hyperparameters.learning_rate=1e-5",
        "--repeat",
        "2",
        "--run-dir",
        str(tmp_path / "price"),
        "--json",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert [future["future"] for future in result["futures"]] == [1, 2]
    assert {row["quantity"] for row in result["differences"]} == {"best score", "windows", "steps"}
    folders = sorted(path.name for path in (tmp_path / "price").iterdir())
    assert folders == ["changed-01", "changed-02", "same-01", "same-02"]
    # Common random numbers: both branches of a future begin with the same window, which two futures do not.
    firsts = {name: _window(tmp_path / "price" / name, 7)["data"]["checksum"] for name in folders}
    assert firsts["same-01"] != firsts["same-02"]
    assert _window(tmp_path / "price/same-01", 6) == _window(tmp_path / "price/changed-01", 6)


def _window(run: Path, number: int) -> dict[str, Any]:
    return next(
        event["body"]
        for event in journal(run)
        if event["type"] == "WindowCollected"
        and event["body"]["window"] == number
        and event["body"]["role"] == "train"
    )


def test_what_cannot_change_on_the_way_is_refused(original: Path, tmp_path: Path) -> None:
    for setting, words in (
        ("agent.hidden_sizes=[8]", "agent.hidden_sizes cannot change in a fork"),
        ("seed=9", "is part of its past"),
    ):
        done = command(
            "fork", str(original), "--at-window", "3", "--set", setting, "--run-dir", str(tmp_path / "no")
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert not (tmp_path / "no").exists()
    done = command("fork", str(original), "--at", "999999", "--run-dir", str(tmp_path / "no"))
    assert "999999 was asked for" in done.stderr
