"""Child processes: started with a lifeline, watched, ended, and explained when they die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

LIFELINE = "OPTIX_BUS_LIFELINE"

#: One thread each: tiny networks lose by more, results are the same on every machine, and the processes of
#: a run do not fight over the cores.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_TENSORFLOW = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_ENVIRONMENT = {
    **dict.fromkeys((*_THREADS, *_TENSORFLOW), "1"),
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
}
#: Exit code of a process whose end somebody else has taken note of: all that is known is that it is gone.
UNKNOWN = 71


class Child(ABC):
    """One child process with its log file, however it was started."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log

    @property
    @abstractmethod
    def pid(self) -> int:
        """Its process id."""

    @property
    @abstractmethod
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask for an orderly end."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, stopped or not."""

    @abstractmethod
    def wait(self, seconds: float) -> int | None:
        """Wait for the end; None where it is still running after that time."""

    @abstractmethod
    def close(self) -> None:
        """Give up what is held for it: its lifeline, where it has one of its own."""

    def last_lines(self, count: int = 5) -> list[str]:
        """The end of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-count:]


class SpawnedChild(Child):
    """A new interpreter.

    It inherits the read end of a pipe whose only writer is this process. When this process ends, however it
    ends, the child reads the end of the pipe and exits (see `lifeline.watch`).

    Args:
        name: of the process in its run.
        arguments: of the interpreter.
        log: where its output goes, behind what is there.
        pass_fds: further descriptors that it inherits under their numbers.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path, pass_fds: Sequence[int] = ()) -> None:
        super().__init__(name, log)
        reader, writer = os.pipe()
        self._writer = writer
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(reader, *pass_fds),
                    env={**os.environ, **_ENVIRONMENT, LIFELINE: str(reader)},
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


class AdoptedChild(Child):
    """A process that another one has forked and left to us (see `nursery` and `adoption`)."""

    def __init__(self, name: str, pid: int, log: Path) -> None:
        super().__init__(name, log)
        self._pid = pid
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                if not _exists(self._pid):
                    self._code = UNKNOWN
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def terminate(self) -> None:
        """Ask for an orderly end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, stopped or not."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.exit_code is None:  # as long as nobody has waited for it, the number is nobody else's
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def wait(self, seconds: float) -> int | None:
        """Wait for the end; None where it is still running after that time."""
        deadline = time.monotonic() + seconds
        while self.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.exit_code

    def close(self) -> None:
        """Nothing is held for it; its lifeline is shared with the others that were forked."""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
