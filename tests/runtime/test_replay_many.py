"""Many runs of every topology in the repository, each played again to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from optix_bus.runtime.replay_session import replay
from tests.runtime.recorded import TOPOLOGIES, record, with_validation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(100, 120))
@pytest.mark.parametrize("topology", sorted(path.name for path in TOPOLOGIES.glob("*.yaml")))
def test_every_run_is_reproduced(topology: str, seed: int, tmp_path: Path) -> None:
    overrides = with_validation() if "\n  validation:" in (TOPOLOGIES / topology).read_text() else ()
    run = record(tmp_path / "run", TOPOLOGIES / topology, f"seed={seed}", *overrides)
    report = replay(run)
    assert (report.exit_code, report.divergence) == (0, None)
    assert report.outputs == run.head - sum(not found.cause for found in run.records())
