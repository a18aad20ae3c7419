"""A stream whose time does not wait for us: read by a thread of its own into a bounded queue."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from optix_bus.errors import EnvironmentFailure

#: Pauses before a stream is opened again: the first, and the longest that doubling leads to.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_FORM = "(observation, reward, terminated, truncated, info)"


@dataclass(frozen=True)
class Item:
    """One item of a stream.

    Attributes:
        follows: whether nothing is missing between the item before and this one.
        arrived: when it was received, seconds of a monotonic clock.
    """

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]
    follows: bool
    arrived: float


class Feed:
    """Reads a source; whoever takes items never waits for longer than it says.

    The thread only reads. When the queue is full the oldest item goes, because in live data the newest one
    counts; what comes after a missing item says so (`Item.follows`), and so does the first item of a stream
    that was opened again.

    Args:
        source: has ``stream()``, an iterator of items.
        capacity: items that wait at most.
        reconnect: open the stream again when it ends, raises or falls silent.
        silence_seconds: no item for so long, and the stream counts as lost.
        attempts: streams without a single item, one after the other, after which it is given up.
    """

    def __init__(
        self, source: Any, capacity: int, *, reconnect: bool, silence_seconds: float, attempts: int
    ) -> None:
        self._source = source
        self._reconnect = reconnect
        self._silence = silence_seconds
        self._attempts = attempts
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._news = threading.Condition()
        self._life = 0  # of the thread that may speak; others are left behind in a read that never returns
        self._broken = True  # the next item does not follow the one before
        self._fruitless = 0
        self._heard = 0.0
        self._over = ""
        self._running = False
        self._reader: threading.Thread | None = None
        self.dropped = 0
        self.connections = 0

    def start(self) -> None:
        """Open the stream; without effect while it is open."""
        with self._news:
            if self._running:
                return
            self._running, self._over = True, ""
            self._open()

    def stop(self) -> None:
        """Read no more. A thread that hangs in its source ends when that returns, and is heard no more."""
        with self._news:
            self._running = False
            self._life += 1
            self._news.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the thread that reads, at most so long; after `stop`."""
        if self._reader is not None:
            self._reader.join(seconds)

    def take(self, seconds: float) -> Item | None:
        """The oldest item; None where none has come within ``seconds``.

        Raises:
            EnvironmentFailure: the stream is over, or gave what is no item.
        """
        deadline = time.monotonic() + seconds
        with self._news:
            while not self._items:
                if self._over or not self._running:
                    raise EnvironmentFailure(
                        self._over or f"{type(self._source).__name__} is not read any more"
                    )
                now = time.monotonic()
                if now - self._heard > self._silence:
                    self._lost(f"it was silent for more than {self._silence:g} s")
                    continue
                if now >= deadline:
                    return None
                self._news.wait(min(deadline - now, max(0.0, self._heard + self._silence - now) + 0.001))
            return self._items.popleft()

    def _open(self, pause: float = 0.0) -> None:
        self._life += 1
        self._heard = time.monotonic() + pause
        self._reader = threading.Thread(
            target=self._read, args=(self._life, pause), name="live-feed", daemon=True
        )
        self._reader.start()

    def _lost(self, why: str) -> None:
        """The stream is gone: open another one, or say that it is over. The lock is held."""
        self._broken = True
        self._fruitless += 1
        name = type(self._source).__name__
        if not self._reconnect:
            self._over = f"the stream of {name} is over: {why}"
        elif self._fruitless > self._attempts:
            self._over = f"the stream of {name} is over: {why}, and {self._attempts} more gave no item"
        else:
            self._open(min(_FIRST_PAUSE * 2.0 ** (self._fruitless - 1), _LONGEST_PAUSE))
        if self._over:
            self._life += 1
        self._news.notify_all()

    def _read(self, life: int, pause: float) -> None:
        """The thread: one stream from its beginning to its end."""
        with self._news:
            # Ended by `stop`, which begins another life.
            self._news.wait_for(lambda: life != self._life, pause)
            if life != self._life:
                return
            self._heard = time.monotonic()
        stream: Any = None
        why = "it ended"
        try:
            stream = iter(self._source.stream())
            with self._news:
                self.connections += life == self._life
            for given in stream:
                if not self._put(life, given):
                    return
        except Exception as error:  # whatever a user's source raises
            why = f"{type(error).__name__}: {error}"
        finally:
            if hasattr(stream, "close"):
                with contextlib.suppress(Exception):  # it is left anyway
                    stream.close()
        with self._news:
            if life == self._life:
                self._lost(why)

    def _put(self, life: int, given: Any) -> bool:
        """Queue an item; False where this thread is heard no more."""
        try:
            observation, reward, terminated, truncated, info = given
            reward = float(reward)
        except (TypeError, ValueError):
            observation = None
        with self._news:
            if life != self._life:
                return False
            if observation is None:
                self._over = f"{type(self._source).__name__} gave {given!r}, expected {_FORM}"
                self._life += 1
                self._news.notify_all()
                return False
            if len(self._items) == self._capacity:
                self._items.popleft()
                self.dropped += 1
                if self._items:
                    self._items[0] = replace(self._items[0], follows=False)
                else:
                    self._broken = True
            now = time.monotonic()
            told = dict(info) if info else {}
            ended = bool(terminated), bool(truncated)
            self._items.append(Item(observation, reward, *ended, told, not self._broken, now))
            self._broken, self._heard, self._fruitless = False, now, 0
            self._news.notify_all()
            return True
