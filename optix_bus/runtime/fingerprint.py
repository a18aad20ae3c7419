"""On what a run ran: results to the bit can be compared only where this is equal."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from pathlib import Path


def fingerprint() -> dict[str, str]:
    """What must be equal for bit-equal results."""
    versions = {}
    for package in ("numpy", "torch", "tensorflow", "keras", "jaxlib", "gymnasium", "optix-bus"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        "system": platform.system(),
        "threads": "1",
        **versions,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
