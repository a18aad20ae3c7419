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

    def is_candidate(self, score: float) -> bool:
        """Whether a score beats the record."""
        return self.best is None or score > self.best.score

    def promote(self, challenger: Best) -> bool:
        """Put a challenger in the lead if its record beats the old one; says whether."""
        if not self.is_candidate(challenger.score):
            return False
        self.best = challenger
        return True

    def renew(self, best: Best) -> None:
        """The world has changed: what was scored before it did cannot be compared with what comes."""
        self.best = best

    def state(self) -> dict[str, Any] | None:
        """Plain values from which `load_state` goes on."""
        return asdict(self.best) if self.best is not None else None

    def load_state(self, state: dict[str, Any] | None) -> None:
        """Go on from a `state`."""
        self.best = Best(**state) if state is not None else None
