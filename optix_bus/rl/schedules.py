"""Hyperparameters that change on the way: constant, linear, cosine or exponential over a horizon.

The cosine is that of Loshchilov and Hutter 2017, "SGDR", https://arxiv.org/abs/1608.03983, equation 5,
without restarts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optix_bus.settings import setting

SHAPES = ("constant", "linear", "cosine", "exponential")
#: What an agent counts for itself: environment steps that it learnt from, and gradient steps that it took.
#: Both are independent of the length of windows and of evaluations.
CLOCKS = ("environment_steps", "gradient_steps")


@dataclass(frozen=True)
class Schedule:
    """A value for each moment of a run; after the horizon it stays where it is.

        Schedule.linear(3e-4, 0.0, over=200_000)
        {"schedule": "linear", "from": 3e-4, "to": 0.0, "over": 200_000}    # the same, in hyperparams

    Attributes:
        schedule: one of `SHAPES`.
        from_: value at the start; ``from`` in a mapping.
        to: value at the end.
        over: length of the way.
        clock: one of `CLOCKS`, from the first step that the agent ever took.

    Raises:
        ValueError: the parts do not make a way from one value to another; says why.
    """

    schedule: str = setting(description="The way from one value to the other.", choices=SHAPES)
    from_: float = setting(description="Value at the start.")
    to: float | None = setting(None, "Value at the end, and from then on.")
    over: int | None = setting(None, "How long it takes, by the clock.", minimum=1)
    clock: str = setting(CLOCKS[0], "What is counted.", choices=CLOCKS)

    def __post_init__(self) -> None:
        if self.schedule not in SHAPES:
            raise ValueError(f"schedule is {self.schedule!r}, expected one of {', '.join(SHAPES)}")
        if self.clock not in CLOCKS:
            raise ValueError(f"clock is {self.clock!r}, expected one of {', '.join(CLOCKS)}")
        if self.schedule == "constant":
            if self.to is not None or self.over is not None:
                raise ValueError("a constant schedule has only 'from'; remove 'to' and 'over'")
        elif self.to is None or self.over is None:
            lacks = " and ".join(repr(n) for n, v in (("to", self.to), ("over", self.over)) if v is None)
            raise ValueError(f"a {self.schedule} schedule lacks {lacks}")
        elif self.over < 1:
            raise ValueError(f"'over' is {self.over}, expected at least 1")
        ends = self.ends
        if not all(math.isfinite(end) for end in ends):
            raise ValueError(f"it goes from {ends[0]} to {ends[1]}, expected finite numbers")
        if self.schedule != "constant" and ends == (0.0, 0.0):
            raise ValueError("it goes from 0 to 0; write 0 instead of the schedule")
        if self.schedule == "exponential" and ends[0] * ends[1] <= 0.0:
            raise ValueError(
                f"an exponential schedule goes from {ends[0]} to {ends[1]}, expected two numbers of one "
                "sign, neither 0; write linear or cosine to reach 0"
            )

    @classmethod
    def constant(cls, value: float) -> Schedule:
        """Always the same; takes the place of another schedule."""
        return cls("constant", value)

    @classmethod
    def linear(cls, start: float, end: float, *, over: int, clock: str = CLOCKS[0]) -> Schedule:
        """As much at every step."""
        return cls("linear", start, end, over, clock)

    @classmethod
    def cosine(cls, start: float, end: float, *, over: int, clock: str = CLOCKS[0]) -> Schedule:
        """Slowly at both ends, half a period of the cosine."""
        return cls("cosine", start, end, over, clock)

    @classmethod
    def exponential(cls, start: float, end: float, *, over: int, clock: str = CLOCKS[0]) -> Schedule:
        """By the same factor at every step."""
        return cls("exponential", start, end, over, clock)

    @classmethod
    def read(cls, given: Schedule | Mapping[str, Any]) -> Schedule:
        """From a mapping as it is written in files.

        Raises:
            ValueError: a key is unknown or lacking, or a value has the wrong type.
        """
        if isinstance(given, Schedule):
            return given
        known = ("schedule", "from", "to", "over", "clock")
        unknown = [str(key) for key in given if key not in known]
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r} of a schedule; it has {', '.join(known)}")
        for key in ("schedule", "from"):
            if key not in given:
                raise ValueError(f"a schedule lacks {key!r}")
        for key in ("from", "to", "over"):
            value = given.get(key, 1)
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise ValueError(f"{key!r} of a schedule is {value!r}, expected a number")
        over = given.get("over")
        if over is not None and over != int(over):
            raise ValueError(f"'over' is {over}, expected a whole number")
        return cls(
            str(given["schedule"]),
            float(given["from"]),
            float(given["to"]) if "to" in given else None,
            None if over is None else int(over),
            str(given.get("clock", CLOCKS[0])),
        )

    @property
    def ends(self) -> tuple[float, float]:
        """First and last value."""
        return self.from_, self.from_ if self.to is None else self.to

    @property
    def level(self) -> float:
        """The one number that stands for the whole schedule: its first value, or its last where that is 0."""
        return self.ends[0] if self.ends[0] != 0.0 else self.ends[1]

    def at(self, elapsed: float, level: float | None = None) -> float:
        """The value after so many steps of the clock.

        Args:
            elapsed: steps, at least 0.
            level: stretches the whole schedule, so that `level` would be this.
        """
        first, last = self.ends
        share = 1.0 if self.over is None else min(max(elapsed, 0.0) / self.over, 1.0)
        if self.schedule == "cosine":
            share = (1.0 - math.cos(math.pi * share)) / 2.0
        if share in (0.0, 1.0):
            value = last if share else first  # the ends are met exactly
        elif self.schedule == "exponential":
            value = first * (last / first) ** share
        else:
            value = first + (last - first) * share
        return value if level is None or level == self.level else value * (level / self.level)

    def as_mapping(self) -> dict[str, Any]:
        """As it is written in files."""
        if self.schedule == "constant":
            return {"schedule": "constant", "from": self.from_}
        way = {"schedule": self.schedule, "from": self.from_, "to": self.to}
        return {**way, "over": self.over, "clock": self.clock}
