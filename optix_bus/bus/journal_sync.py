"""Group commit: one thread asks the disk, so that the hub does not wait for it."""

from __future__ import annotations

import os
import threading

from optix_bus.errors import JournalError


def sync_data(descriptor: int) -> None:
    """Wait until the content of a file survives a power cut; `fdatasync` where the system has it."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


class Syncer:
    """Syncs a file every ``seconds`` while there is something new, and at once when told to.

    A failed sync is final: the kernel has dropped the pages and a second try would report success for data
    that is gone. The hub then ends, and its successor starts from what the disk has.
    """

    def __init__(self, descriptor: int, seconds: float, head: int) -> None:
        self._descriptor = descriptor
        self._closing: list[int] = []
        self._seconds = seconds
        self._head = head
        self.synced = head
        self._error = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def dirty(self, head: int) -> None:
        """There is something new, up to this event."""
        self._head = head

    def follow(self, descriptor: int, *, close: int) -> None:
        """Go on with another file; the one before is synced and closed by the thread."""
        with self._lock:
            self._closing.append(close)
            self._descriptor = descriptor

    def now(self) -> None:
        """Sync and wait.

        Raises:
            JournalError: the disk refused.
        """
        self._sync()
        self.check()

    def check(self) -> None:
        """Raise what the thread met."""
        if self._error:
            raise JournalError(
                f"the journal could not be synced: {self._error}; the last event known to be safe is "
                f"{self.synced}. Check the disk, then start again"
            )

    def close(self) -> None:
        """Stop the thread; closes files that `follow` left, not the present one."""
        self._stop.set()
        self._thread.join()
        for descriptor in self._closing:
            os.close(descriptor)
        self._closing.clear()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            if self._head > self.synced or self._closing:
                self._sync()

    def _sync(self) -> None:
        with self._lock:
            head = self._head
            try:
                while self._closing:
                    sync_data(self._closing[0])
                    os.close(self._closing.pop(0))
                sync_data(self._descriptor)
            except OSError as error:
                self._error = f"{os.strerror(error.errno or 0)} (errno {error.errno})"
                return
            self.synced = head
