"""The variants that are trained beside the learner, as the loop waits for them: window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from optix_bus.loop.verdicts import Evaluation

#: What an `Evaluation` takes of a variant's score.
_OF_SCORE = ("window", "policy_version", "score", "n", "standard_error", "std")


@dataclass
class Member:
    """One variant.

    Attributes:
        nodes: names of its nodes.
        since: the window at whose plateau it was admitted; from the next one on it takes part.
        version: its newest policy; -1 before the first.
        learnt: the last window it was learnt from.
        params: its hyperparameters.
        score: plain score of the open window; None while it is missing, or where none is due.
        fresh: plain score over fresh episodes, where its policy may become the best.
        asked: whether such episodes were asked for in the open window.
    """

    nodes: tuple[str, ...]
    since: int
    version: int = -1
    learnt: int = -1
    params: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] | None = None
    fresh: dict[str, Any] | None = None
    asked: bool = False

    def waits(self, window: int, evaluate: bool) -> bool:
        """Whether something of this window is still missing."""
        if window <= self.since:
            return self.version < 0
        return self.learnt < window or (evaluate and self.score is None)


class Members:
    """Facts about variants with nodes of their own; they may arrive in any order.

    A window is judged when every variant has learnt from its own window of that number and, where it is
    evaluated, was scored; so the order in which processes reach the hub decides nothing here either.

    Args:
        names: gives the names of the nodes of a variant, by its number; None where variants have none.
    """

    def __init__(self, names: Callable[[int], tuple[str, ...]] | None = None) -> None:
        self._names = names
        self._live: dict[int, Member] = {}
        self._leaving: dict[int, str] = {}
        #: Whether a variant has become the best by more than the margin since the last window was closed.
        self.improved = False

    @property
    def present(self) -> bool:
        """Whether variants have nodes of their own."""
        return self._names is not None

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all their nodes that belong to the run now."""
        return tuple(name for member in self._live.values() for name in member.nodes)

    def admit(self, variant: int, window: int) -> tuple[str, ...]:
        """A new variant, at the plateau of this window; the names of its nodes."""
        assert self._names is not None
        self._live[variant] = Member(self._names(variant), window)
        return self._live[variant].nodes

    def learnt(self, variant: int, version: int, window: int, params: Mapping[str, Any]) -> bool:
        """A policy of a variant exists; whether it is its first."""
        member = self._live.get(variant)
        if member is None:
            return False
        first = member.version < 0
        member.version, member.learnt, member.params = version, window, dict(params)
        return first

    def scored(self, variant: int, score: Mapping[str, Any]) -> None:
        """A plain score has arrived."""
        member = self._live.get(variant)
        if member is not None and score["purpose"] == "confirm":
            member.fresh = dict(score)
        elif member is not None:
            member.score = dict(score)

    def waits(self, window: int, *, evaluate: bool) -> bool:
        """Whether something of this window is still missing of a variant."""
        return any(member.waits(window, evaluate) for member in self._live.values())

    def rivals(self, beats: Callable[[float], bool]) -> list[tuple[int, int]]:
        """Variants, with their policy versions, whose score beats the record, each once a window: fresh
        episodes have to say whether that was luck."""
        found = []
        for number, member in self._live.items():
            score = member.score
            if score is None or member.asked or not math.isfinite(score["score"]):
                continue
            if beats(float(score["score"])):
                member.asked = True
                found.append((number, int(score["policy_version"])))
        return found

    @property
    def confirming(self) -> bool:
        """Whether fresh episodes of a variant are under way."""
        return any(member.asked and member.fresh is None for member in self._live.values())

    def confirmed(self) -> list[tuple[Evaluation, dict[str, Any], dict[str, Any]]]:
        """Fresh evaluations with their plain scores and the variants' hyperparameters, by number."""
        return [
            (Evaluation(**{name: member.fresh[name] for name in _OF_SCORE}), member.fresh, member.params)
            for member in self._live.values()
            if member.fresh is not None
        ]

    def prune(self, variant: int, reason: str) -> None:
        """The policy manager does without a variant; it leaves when the window is closed."""
        if variant in self._live:
            self._leaving[variant] = reason

    def close(self) -> list[tuple[int, tuple[str, ...], str]]:
        """A window is closed: number, nodes and reason of those that leave."""
        left = [(number, self._live.pop(number).nodes, reason) for number, reason in self._leaving.items()]
        self._leaving = {}
        for member in self._live.values():
            member.score, member.fresh, member.asked = None, None, False
        return left

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on."""
        return {
            "live": {number: asdict(member) for number, member in self._live.items()},
            "leaving": dict(self._leaving),
            "improved": self.improved,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; keys may have become texts."""
        self._live = {
            int(number): Member(**{**member, "nodes": tuple(member["nodes"])})
            for number, member in state["live"].items()
        }
        self._leaving = {int(number): reason for number, reason in state["leaving"].items()}
        self.improved = bool(state["improved"])
