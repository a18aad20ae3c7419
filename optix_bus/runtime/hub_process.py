"""The hub as a process of a run.

python -m optix_bus.runtime.hub_process RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

from optix_bus.bus.hub import HubSettings, serve
from optix_bus.errors import OptixError
from optix_bus.runtime import lifeline
from optix_bus.runtime.failures import write_failure
from optix_bus.runtime.names import HUB
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.run_directory import RunDirectory

#: What must survive a power cut before anybody acts on it: which policy is best, and how the run ended.
SYNC_EACH = ("PolicyPromoted", "SnapshotSaved", "RunFinished")


def main(arguments: list[str]) -> int:
    """Run the hub of a run until it is terminated; returns the exit code."""
    lifeline.watch()
    run = RunDirectory(Path(arguments[0]))
    try:
        plan = RunPlan.read(run.root / "plan.json")
        serve(
            HubSettings(
                directory=plan.sockets,
                journal=str(run.journal),
                run=plan.run_id,
                sync_seconds=float(plan.run["journal_sync_seconds"]),
                sync_each=SYNC_EACH,
            )
        )
    except Exception as error:
        write_failure(run, HUB, [HUB], error)
        return error.exit_code if isinstance(error, OptixError) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
