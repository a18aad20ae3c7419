"""Starting and surely ending the processes of a bus test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optix_bus.bus.endpoints import HubEndpoints


class Processes:
    """Child processes by name; all of them are gone when the test is."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.sockets = base / "s"
        self.journal = base / "j"
        self.endpoints = HubEndpoints.in_directory(self.sockets)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str]] = {}

    def start(self, name: str, *command: str, **options: Any) -> int:
        """Start `python COMMAND`; returns the process id."""
        self._children[name] = subprocess.Popen([sys.executable, *command], cwd=Path.cwd(), **options)
        return self._children[name].pid

    def start_hub(self, *arguments: str, **options: Any) -> int:
        where = ["--directory", str(self.sockets), "--journal", str(self.journal)]
        return self.start("hub", "-m", "optix_bus.bus.hub", *where, *arguments, **options)

    def kill(self, name: str) -> None:
        child = self._children[name]
        child.send_signal(signal.SIGKILL)
        assert child.wait(20) == -signal.SIGKILL, f"{name} had ended by itself with {child.returncode}"

    def signal(self, name: str, number: int) -> None:
        self._children[name].send_signal(number)

    def is_running(self, name: str) -> bool:
        return self._children[name].poll() is None

    def stop(self, name: str) -> int:
        self._children[name].send_signal(signal.SIGTERM)
        return self._children[name].wait(20)

    def pid(self, name: str) -> int:
        return self._children[name].pid

    def end(self) -> None:
        for child in self._children.values():
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                child.wait(20)


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """A place for a bus and its processes, removed with them."""
    base = Path(tempfile.mkdtemp(prefix="bus-"))
    children = Processes(base)
    try:
        yield children
    finally:
        children.end()
        shutil.rmtree(base)
