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
    """Write the cause beside the run, and the whole story into the log (standard error)."""
    traceback.print_exception(error)
    message = str(error) if isinstance(error, OptixError) else f"{type(error).__name__}: {error}"
    failure: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": message,
        "exit_code": error.exit_code if isinstance(error, OptixError) else NodeFailure.exit_code,
        "nodes": nodes,
        "pid": os.getpid(),
    }
    with contextlib.suppress(OSError):  # a full disk: the log and the exit code still tell
        (run.failures / f"{process}.json").write_bytes(msgspec.json.encode(failure))
