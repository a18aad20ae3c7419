"""The windows under way: what is known of each, and when it is complete; and what the complete ones fixed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from optix_bus.loop.verdicts import Judgement


class Step(Enum):
    """What is to be done for a window, as far as the facts allow."""

    WAIT = "wait"
    REQUEST = "request"
    JUDGE = "judge"
    ANNOUNCE = "announce"
    CLOSE = "close"


@dataclass
class OpenWindow:
    """A window from its command to its completion.

    A window is complete when it was learnt from, its evaluation (if any) is judged, a candidate for the best
    is confirmed, the optimizer has answered and a rollback (if any) is done. A window of the watchdog
    (``watch``) is complete when the best policy is in force, evaluated and judged.
    """

    number: int
    policy_version: int
    evaluate: bool
    watch: bool = False
    requested: bool = False
    steps: int = 0
    policy_after: int | None = None
    hyperparams_after: int | None = None
    score: Any = None
    external: float | None = None
    judgement: Judgement | None = None
    confirming: bool = False
    judged: bool = False
    rolling_back: bool = False

    def step(self, *, optimizer: bool) -> Step:
        """What comes next; ``optimizer`` says whether somebody answers to verdicts."""
        if self.policy_after is None or (self.watch and self.rolling_back):
            return Step.WAIT
        if self.watch and not self.requested:
            return Step.REQUEST
        if not self.evaluate:
            return Step.CLOSE
        if self.score is None:
            return Step.WAIT
        if self.judgement is None:
            return Step.JUDGE
        if self.confirming:
            return Step.WAIT
        if not self.judged:
            return Step.ANNOUNCE
        answered = self.watch or not optimizer or self.hyperparams_after is not None
        return Step.WAIT if self.rolling_back or not answered else Step.CLOSE


@dataclass
class WindowBook:
    """Open windows, oldest first. Only the oldest is ever worked on: verdicts fall in the order of windows,
    whatever the order in which facts arrive."""

    windows: list[OpenWindow] = field(default_factory=list)

    def open(self, window: OpenWindow) -> None:
        """Add the next window."""
        self.windows.append(window)

    def find(self, number: int) -> OpenWindow | None:
        """An open window by its number."""
        return next((window for window in self.windows if window.number == number), None)

    @property
    def oldest(self) -> OpenWindow | None:
        """The window that everything waits for."""
        return self.windows[0] if self.windows else None

    def close(self) -> OpenWindow:
        """The oldest is complete."""
        return self.windows.pop(0)

    def state(self, plain: Callable[[Any], Any]) -> list[dict[str, Any]]:
        """Plain values from which `load_state` goes on; ``plain`` says what a score is in them."""
        return [
            {
                **vars(window),
                "score": None if window.score is None else plain(window.score),
                "judgement": None if window.judgement is None else asdict(window.judgement),
            }
            for window in self.windows
        ]

    def load_state(self, state: list[dict[str, Any]], score: Callable[[Any], Any]) -> None:
        """Go on from a `state`; ``score`` makes the score of what ``plain`` made of it."""
        self.windows = [
            OpenWindow(
                **{
                    **window,
                    "score": None if window["score"] is None else score(window["score"]),
                    "judgement": None if window["judgement"] is None else Judgement(**window["judgement"]),
                }
            )
            for window in state
        ]


@dataclass
class Standing:
    """Where the run stands: fixed by complete windows, never by what happens to have arrived.

    Attributes:
        next_window: number of the window that will be asked for next.
        policy_version: what it acts with.
        hyperparams_version: what it is acted and learnt with.
        params: hyperparameters that may still be asked about, by version.
        probes: versions that are probes of a tuner.
        steps: environment steps of training so far.
        evaluations: windows judged so far.
        train_score: of the last judged window.
        gap: training minus validation score of the last judged window.
        ending: why the run is over; empty while it is not.
        switches: each change of an optimizer that chooses among others: window, old, new, reason.
    """

    next_window: int = 0
    policy_version: int = 0
    hyperparams_version: int = 0
    params: dict[int, dict[str, Any]] = field(default_factory=dict)
    probes: set[int] = field(default_factory=set)
    steps: int = 0
    evaluations: int = 0
    train_score: float = math.nan
    gap: float = math.nan
    ending: str = ""
    switches: list[tuple[int, str, str, str]] = field(default_factory=list)

    def forget_before(self, version: int) -> None:
        """Nobody will ask about hyperparameters before this version any more."""
        self.params = {v: params for v, params in self.params.items() if v >= version}
        self.probes = {v for v in self.probes if v >= version}

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on."""
        state = {**asdict(self), "probes": sorted(self.probes)}
        if not self.switches:  # most runs have none, and need not say so at every cut
            del state["switches"]
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; keys may have become texts."""
        for name, value in state.items():
            setattr(self, name, value)
        self.params = {int(version): params for version, params in state["params"].items()}
        self.probes = set(state["probes"])
        self.switches = [tuple(switch) for switch in state.get("switches", ())]
