"""What takes a disk long: files on their way to it, and old ones that go. Nobody need wait for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class DiskSync:
    """Syncs and removes files in a thread of its own.

    On a disk under load a sync takes as long as many a window; but what is written must not fall behind
    without bounds, so whoever writes next first waits for what was written before.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: list[Future[None]] = []

    def begin(self, descriptor: int) -> None:
        """Sync an open file; the descriptor stays the caller's."""
        own = os.dup(descriptor)
        self.later(lambda: _sync(own))

    def later(self, work: Callable[[], None]) -> None:
        """Do something else with the disk, behind all that was begun before."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="disk-sync")
        try:
            self._under_way.append(self._thread.submit(work))
        except RuntimeError:  # the interpreter is ending and takes no more work
            work()

    def settle(self) -> None:
        """Wait until everything is done: what was written is on the disk.

        Raises:
            OSError: the disk refused some of it.
        """
        refused: OSError | None = None
        for sync in self._under_way:
            try:
                sync.result()
            except OSError as error:
                refused = error
        self._under_way.clear()
        if refused is not None:
            raise refused


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
