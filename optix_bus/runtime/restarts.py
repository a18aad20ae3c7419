"""What dies comes back, within reason: when a process is started again, and when its run gives up.

Restarting cures what was an accident: a signal, a full memory, a lost connection. It does not cure what is
written in the file, or what happens again at the same event. So the second of two equal failures at one event
is the last, and whoever comes no further is not started for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Policy = Literal["permanent", "transient", "temporary"]
#: The strictest first; of several nodes in one process it holds for all.
POLICIES: tuple[Policy, ...] = ("permanent", "transient", "temporary")

#: So many lives in a row that end before they were set up, or with the same words, are enough.
ENOUGH = 3
#: Seconds before the second restart in a row; each further one waits twice as long.
FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
_CONFIGURATION = 2


@dataclass(frozen=True)
class Death:
    """How one life of a process ended.

    Attributes:
        cause: root cause in one line.
        exit_code: negative for a signal.
        was_heard: whether it had been set up in this life, and said so.
        handled: the last event that all its nodes had handled, as far as it was heard; -1 for none.
        said: whether the cause is its own words, or what it was found doing; not so where a signal is all
            that is known.
        node, sequence: the node and the event in hand, where it happened in a handler; else 0.
    """

    cause: str
    exit_code: int
    was_heard: bool = True
    handled: int = -1
    said: bool = False
    node: str = ""
    sequence: int = 0


@dataclass(frozen=True)
class Again:
    """Start it again after so many seconds; this is restart number ``count`` within the time that counts."""

    delay_seconds: float
    count: int


@dataclass(frozen=True)
class Without:
    """It does not come back, and the run goes on without it."""


@dataclass(frozen=True)
class GiveUp:
    """The run ends; ``reason`` goes on from the name of the node: ``died: killed by SIGKILL``."""

    reason: str


Decision = Again | Without | GiveUp


def strictest(policies: Iterable[Policy]) -> Policy:
    """The policy of a process, from those of its nodes."""
    return min(policies, key=POLICIES.index)


class Restarts:
    """The history of one process, and what follows from it.

    Args:
        policy: ``permanent`` always comes back, ``transient`` after an abnormal end, ``temporary`` never.
        limit: restarts within ``seconds``, and in a row without coming further; 0 for none at all.
        seconds: how long a death counts.
        needed: whether somebody waits for what its nodes emit.
    """

    def __init__(self, policy: Policy, limit: int, seconds: float, *, needed: bool = True) -> None:
        self._policy = policy
        self._limit = limit
        self._seconds = seconds
        self._needed = needed
        self._deaths: deque[float] = deque()
        self._failed_starts = 0
        self._furthest = -2
        self._no_further = 0
        self._last: Death | None = None
        self._alike = 1

    def after(self, death: Death, now: float) -> Decision:
        """What to do after a death at ``now``, a monotonic time in seconds."""
        self._count(death, now)
        if death.exit_code == _CONFIGURATION:
            return GiveUp(f"died: {death.cause}")  # a wrong setting does not become right
        if self._policy == "temporary":
            return Without()
        if self._policy == "transient" and death.exit_code == 0:
            return self._ended_in_order()
        if not self._limit:
            return GiveUp(f"died: {death.cause}")
        if self._alike >= 2 and death.sequence:
            return GiveUp(f"failed twice at event {death.sequence} with the same error: {death.cause}")
        if self._failed_starts >= ENOUGH:
            return GiveUp(f"was never ready in {ENOUGH} starts in a row: {death.cause}")
        if self._alike >= ENOUGH:
            return GiveUp(f"failed {ENOUGH} times in a row with the same error: {death.cause}")
        if len(self._deaths) > self._limit:
            times = f"died {len(self._deaths)} times in {self._seconds:g} s (run.restarts is {self._limit})"
            return GiveUp(f"{times}: {death.cause}")
        if self._no_further >= self._limit:
            times = f"died {self._no_further + 1} times without getting past event {max(self._furthest, 0)}"
            return GiveUp(f"{times} (run.restarts is {self._limit}): {death.cause}")
        return Again(_delay(len(self._deaths)), len(self._deaths))

    def _count(self, death: Death, now: float) -> None:
        self._deaths.append(now)
        while now - self._deaths[0] > self._seconds:
            self._deaths.popleft()
        self._failed_starts = 0 if death.was_heard else self._failed_starts + 1
        alike = self._last is not None and death.said and _place(self._last) == _place(death)
        self._alike = self._alike + 1 if alike else 1
        self._last = death
        self._no_further = 0 if death.handled > self._furthest else self._no_further + 1
        self._furthest = max(self._furthest, death.handled)

    def _ended_in_order(self) -> Decision:
        if not self._needed:
            return Without()
        return GiveUp(
            "ended in order although the run goes on (somebody terminated it), others wait for it, and "
            "'restart: transient' brings back only what died; 'restart: permanent' would"
        )


def _place(death: Death) -> tuple[str, int, str]:
    return death.node, death.sequence, death.cause


def _delay(deaths: int) -> float:
    """The first restart is at once: most deaths are alone."""
    return 0.0 if deaths < 2 else float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** (deaths - 2)))
