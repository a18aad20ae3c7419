"""All benchmarks, one after the other, each in a process of its own: `python -m tests.benchmarks [--quick]`.

Exit code 3 where a demand is missed, 1 where a benchmark could not be run.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.benchmarks.measure import MISSED

BENCHMARKS = (
    "bench_bus",
    "bench_pipelines",
    "bench_loop",
    "bench_training",
    "bench_ppo",
    "bench_ppo_jax",
    "bench_dqn",
    "bench_continuous",
    "bench_tensorflow",
    "bench_start",
    "bench_log",
    "bench_restart",
    "bench_stopped",
    "bench_replay",
)


def main(arguments: list[str]) -> int:
    """Run them; returns the exit code."""
    # Sums over several threads are slower for networks this small, and fight for the cores of the peer.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    missed, broken = [], []
    for name in BENCHMARKS:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments]
        code = subprocess.run(command, env=environment, check=False).returncode
        if code == MISSED:
            missed.append(name)
        elif code != 0:
            broken.append(name)
    if missed:
        print(f"\ndemands missed in {', '.join(missed)}", flush=True)
    if broken:
        print(f"\ncould not be run: {', '.join(broken)}", flush=True)
    return 1 if broken else MISSED if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
