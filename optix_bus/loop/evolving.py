"""What the loop waits for where a policy manager decides about plateaus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Evolving:
    """Facts about plateau and end that may arrive in any order.

    Attributes:
        present: whether there is a policy manager at all.
        decision: its plain decision about the window that is DORMANT, until that is acted on.
        restored: the best policy is back in force at the end.
        report: its part of the report; None until it has come.
    """

    present: bool = False
    decision: dict[str, Any] | None = None
    restored: bool = False
    report: tuple[str, ...] | None = None

    def take(self, window: Any, *, optimizer: bool) -> dict[str, Any] | None:
        """The decision about this window, once: when the window has everything else."""
        decision = self.decision
        if decision is None or window is None or window.number != decision["window"]:
            return None
        if optimizer and window.hyperparams_after is None:
            return None
        self.decision = None
        return decision

    @property
    def complete(self) -> bool:
        """Whether nothing is missing at the end."""
        return self.restored and (not self.present or self.report is not None)

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on."""
        return asdict(self)

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; whether there is a policy manager is as the topology says now."""
        self.decision = state["decision"]
        self.restored = bool(state["restored"])
        self.report = None if state["report"] is None else tuple(state["report"])
