"""Records the small runs that `test_corpus.py` replays: ``python -m tests.runtime.record_corpus``.

To be done when the outputs or the states of nodes are meant to change. What is written: the journal, the plan
without places of the machine, and the resolved topology.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from tests.runtime.recorded import DEMO, ROOT, TOPOLOGIES, record, with_validation

CORPUS = Path(__file__).parent / "corpus"
SCRIPTED = Path(__file__).parent / "scripted.yaml"
BESIDE = Path(__file__).parent / "beside.yaml"
EVOLVING = Path(__file__).parent / "evolving.yaml"
UNTOUCHED = (
    "nodes.scheduler.max_episodes=60",
    "nodes.pipeline.window_steps=20",
    "nodes.pipeline.environments=1",
)
#: A plateau is found as soon as it can be.
EARLY = (
    *UNTOUCHED,
    "nodes.scheduler.plateau_threshold=1",
    "nodes.scheduler.dormant_threshold=1",
    "nodes.scheduler.cut_windows=5",
)
#: One variant comes, and leaves for another.
EXCHANGED = (
    *EARLY,
    "nodes.scheduler.dormant_threshold=2",
    "nodes.scheduler.max_episodes=11",
    "nodes.policy_manager.min_noise=0.25",
)

#: So many windows, and so little patience, that another tuner is chosen.
EAGER = (
    "nodes.scheduler.max_episodes=19",
    "nodes.scheduler.cut_windows=8",
    "nodes.optimizer.switch_confirmation=1",
    "nodes.optimizer.autocorr_threshold=0.01",
)

#: Name -> (topology, overrides).
RUNS = {
    "adaptive": (TOPOLOGIES / "cartpole_adaptive.yaml", with_validation(*EAGER)),
    "beside": (BESIDE, EXCHANGED),
    "demo": (DEMO, with_validation()),
    "evolving": (EVOLVING, (*EARLY, "nodes.policy_manager.max_spawns=1")),
    "lookahead": (DEMO, with_validation("nodes.scheduler.lookahead=1", "seed=3")),
    "own-agent": (TOPOLOGIES / "custom_agent.yaml", with_validation()),
    "scripted": (SCRIPTED, (*UNTOUCHED, "nodes.scheduler.cut_windows=5")),
}


def main() -> None:
    """Record all of them anew."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    for name, (topology, overrides) in RUNS.items():
        with tempfile.TemporaryDirectory(prefix="optix-bus-corpus-") as folder:
            run = record(Path(folder) / "run", topology, *overrides)
            target = CORPUS / name
            (target / "journal").mkdir(parents=True)
            for segment in run.directory.journal.glob("*.mcap"):
                shutil.copyfile(segment, target / "journal" / segment.name)
            shutil.copyfile(run.directory.topology, target / "topology.yaml")
            places = [TOPOLOGIES.relative_to(ROOT).as_posix()]
            msgspec.structs.replace(run.plan, run_directory="", search_path=places).write(
                target / "plan.json"
            )
            size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
            print(f"{name:<12} {run.head:>5} events {size / 1024:>6.0f} KiB")


if __name__ == "__main__":
    main()
