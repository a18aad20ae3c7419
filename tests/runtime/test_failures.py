"""What a dying process leaves behind: the cause, and which node was handling which event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optix_bus.bus.blobs import MemoryBlobStore
from optix_bus.errors import ConfigurationError, NodeFailure
from optix_bus.messages import RunStarted
from optix_bus.runtime.failures import write_failure
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.node import Context, Node, handles
from optix_bus.runtime.run_directory import RunDirectory


class Fragile(Node):
    """Raises what it was given."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @handles(RunStarted)
    def on_start(self, event: RunStarted, ctx: Context) -> None:
        raise self._error


def failure_of(folder: Path, error: Exception) -> dict[str, Any]:
    run = RunDirectory.create(folder / "run")
    write_failure(run, "learner", ["learner", "pipeline"], error)
    return run.failure("learner")


def raised_in_a_handler(error: Exception) -> Exception:
    fold = Fold("pipeline", Fragile(error), seed=0, store=MemoryBlobStore())
    try:
        try:
            fold.apply(RunStarted(run_id="r", seed=0), 1234, 0)
        except KeyError as inner:
            raise NodeFailure(f"'pipeline' in RunStarted: {inner!r}") from inner
    except Exception as outer:
        return outer
    raise AssertionError("it did not raise")


@pytest.mark.parametrize("error", [KeyError("x"), ConfigurationError("wrong")])
def test_node_and_event_in_hand_are_named(error: Exception, tmp_path: Path) -> None:
    found = failure_of(tmp_path, raised_in_a_handler(error))
    assert (found["node"], found["sequence"]) == ("pipeline", 1234)
    assert found["nodes"] == ["learner", "pipeline"]


def test_outside_handlers_there_is_none(tmp_path: Path) -> None:
    found = failure_of(tmp_path, OSError("no such exchange"))
    assert (found["node"], found["sequence"]) == ("", 0)
    assert found["message"] == "OSError: no such exchange"
    assert found["exit_code"] == 3


def test_an_error_of_ours_keeps_its_words_and_its_exit_code(tmp_path: Path) -> None:
    found = failure_of(tmp_path, ConfigurationError("found 3, expected 4"))
    assert (found["message"], found["exit_code"]) == ("found 3, expected 4", 2)
