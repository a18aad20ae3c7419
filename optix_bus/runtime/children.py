"""Child processes: started with a lifeline, watched, ended, and explained when they die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LIFELINE = "OPTIX_BUS_LIFELINE"

#: One thread each: tiny networks lose by more, results are the same on every machine, and the processes of
#: a run do not fight over the cores.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Child:
    """One child process with its log file.

    The child inherits the read end of a pipe whose only writer is this process. When this process ends,
    however it ends, the child reads the end of the pipe and exits (see `lifeline.watch`).
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = log
        reader, writer = os.pipe()
        self._writer = writer
        log.parent.mkdir(parents=True, exist_ok=True)
        full = {**os.environ, **dict.fromkeys(_THREADS, "1"), **environment, LIFELINE: str(reader)}
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(reader,),
                    env=full,
                    # Ctrl-C in the terminal goes to the supervisor alone, which ends the others in order.
                    start_new_session=True,
                )
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask for an orderly end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End it at once, stopped or not."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def wait(self, seconds: float) -> int | None:
        """Wait for the end; None where it is still running after that time."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self.close()
        return code

    def close(self) -> None:
        """Give up the lifeline; a child that still runs then exits."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def last_lines(self, count: int = 5) -> list[str]:
        """The end of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-count:]


def explain_exit(code: int) -> str:
    """An exit code in words, with what usually lies behind it."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hints = {
        "SIGKILL": "killed from outside; if nobody did, the machine was out of memory (see the kernel's log)",
        "SIGSEGV": "a crash in native code",
        "SIGABRT": "an abort in native code",
        "SIGBUS": "a mapped file vanished, or shared memory is full",
        "SIGTERM": "terminated from outside",
    }
    return f"killed by {name}" + (f" ({hints[name]})" if name in hints else "")
