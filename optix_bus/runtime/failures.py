"""The root cause of a dying process, left where the supervisor finds it."""

from __future__ import annotations

import contextlib
import os
import traceback
from typing import Any

import msgspec

from optix_bus.errors import NodeFailure, OptixError
from optix_bus.runtime.run_directory import RunDirectory


def write_failure(run: RunDirectory, process: str, nodes: list[str], error: Exception) -> None:
    """Write the cause beside the run, and the whole story into the log (standard error).

    ``node`` and ``sequence`` say which node was handling which event; empty and 0 outside handlers.
    """
    traceback.print_exception(error)
    message = str(error) if isinstance(error, OptixError) else f"{type(error).__name__}: {error}"
    node, sequence = _in_hand(error)
    failure: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": message,
        "exit_code": error.exit_code if isinstance(error, OptixError) else NodeFailure.exit_code,
        "nodes": nodes,
        "node": node,
        "sequence": sequence,
        "pid": os.getpid(),
    }
    with contextlib.suppress(OSError):  # a full disk: the log and the exit code still tell
        (run.failures / f"{process}.json").write_bytes(msgspec.json.encode(failure))


def _in_hand(error: BaseException) -> tuple[str, int]:
    """Node and event on whose behalf the error was raised: the frame of its fold is in the traceback."""
    from optix_bus.runtime.fold import Fold  # not for the hub, which has none, until it fails

    found: BaseException | None = error
    while found is not None:
        for frame, _ in traceback.walk_tb(found.__traceback__):
            fold = frame.f_locals.get("self")
            if isinstance(fold, Fold):
                return fold.name, fold.sequence
        found = found.__cause__
    return "", 0
