"""Which policy is best: decided by evaluation alone, and by a second one before it counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Best:
    """The best policy and the record it has to be beaten at.

    Attributes:
        policy_version: which policy.
        window: the window it was evaluated in.
        score: its record; the mean over fresh episodes where it was confirmed.
        standard_error: of the record.
        n: episodes behind the record; 0 where unknown.
        signal: the same policy's score by the loop's own signal, which differs where an external scorer
            chooses.
        confirmed: whether the record comes from fresh episodes.
        external: whether the record is that of an external scorer.
    """

    policy_version: int
    window: int
    score: float
    standard_error: float
    n: int
    signal: float
    confirmed: bool
    external: bool = False


class Leader:
    """Holds the best. The maximum of noisy scores flatters, so a score above the record only makes a
    candidate; its record is what fresh episodes give.
    """

    def __init__(self) -> None:
        self.best: Best | None = None
        # Where a policy that the learner did not make leads: the signal of the learner's own best.
        self._own: float | None = None

    @property
    def own_signal(self) -> float | None:
        """What the learner's own scores are held against: those of its own best, whoever leads."""
        own = self.best.signal if self.best is not None else None
        return own if self._own is None else self._own

    def is_candidate(self, score: float) -> bool:
        """Whether a score beats the record."""
        return self.best is None or score > self.best.score

    def promote(self, challenger: Best, *, own: bool = True) -> bool:
        """Put a challenger in the lead if its record beats the old one; says whether. ``own`` is False for a
        policy of somebody else than the learner that the loop watches."""
        if not self.is_candidate(challenger.score):
            return False
        self._own = None if own else self.own_signal
        self.best = challenger
        return True

    def renew(self, best: Best) -> None:
        """The world has changed: what was scored before it did cannot be compared with what comes."""
        self.best, self._own = best, None

    def state(self) -> dict[str, Any] | None:
        """Plain values from which `load_state` goes on."""
        if self.best is None:
            return None
        return {**asdict(self.best), **({} if self._own is None else {"own": self._own})}

    def load_state(self, state: dict[str, Any] | None) -> None:
        """Go on from a `state`."""
        known = dict(state) if state is not None else {}
        self._own = known.pop("own", None)
        self.best = Best(**known) if known else None
