"""The data that the loop passes around: plain dataclasses, no framework, no messages.

Everything here is raw interaction or plain numbers. Nothing in the core reads a key that belongs to
one algorithm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np


class LoopState(Enum):
    """Where the loop stands: tuning hard, backing off, done, or kept alive and only watching."""

    ACTIVE = "active"
    COOLING = "cooling"
    DORMANT = "dormant"
    WATCHDOG = "watchdog"


@dataclass
class EpisodeData:
    """One window of raw interaction, or a set of complete validation episodes.

    Time is the first axis; a window collected in several environments at once has shape
    ``[T, B, ...]``, a window of one environment ``[T, ...]``. ``terminated`` and ``truncated`` stay
    apart: a termination ends the return, a truncation only ends the recording.

    Attributes:
        observations: ``[T, (B,) *obs_shape]``, what the policy saw before acting.
        actions: ``[T, (B,) *action_shape]``, what it did, in the units of the environment.
        rewards: ``[T, (B,)]``.
        terminated: ``[T, (B,)]`` bool.
        truncated: ``[T, (B,)]`` bool.
        infos: one dict per time step, or an empty list where the environment told nothing.
        episode_id: number of the window.
        timestamp: seconds since the epoch, for people; nothing decides by it.
        metadata: facts about the collection; see the pipelines for the keys they write.
        final_observations: ``[T, (B,) *obs_shape]``, the observation that each step led to, before any
            reset: the state to bootstrap from where an episode was truncated or the window ended.
        log_probs: ``[T, (B,)]`` log-probability of the action under the policy that acted.
        values: ``[T, (B,)]`` value estimates of the policy that acted.
        episode_starts: ``[T, (B,)]`` bool, True where an observation is the first of an episode.
        hidden_states: ``[(B,) ...]``, what a recurrent policy remembered before the first step, as its
            ``memory()`` gives it; the states after it follow from the observations and ``episode_starts``.
        action_masks: ``[T, (B,) entries]`` bool, which actions the environment allowed at each step; None
            where it never said so, see `optix_bus.pipelines.masks`.
        valid: ``[T, (B,)]`` bool, False on rows that are no transitions (autoreset); None means all are.
        final_action_masks: ``[T, (B,) entries]`` bool, the same for the observation that each step led to,
            before any reset; None where ``action_masks`` are.
    """

    observations: Any
    actions: Any
    rewards: Any
    terminated: Any
    truncated: Any
    infos: Sequence[Any] = field(default_factory=list)
    episode_id: int = 0
    timestamp: float = field(default_factory=time.time)
    metadata: dict[str, Any] = field(default_factory=dict)
    final_observations: Any = None
    log_probs: Any = None
    values: Any = None
    episode_starts: Any = None
    hidden_states: Any = None
    valid: Any = None
    action_masks: Any = None
    final_action_masks: Any = None

    @property
    def dones(self) -> np.ndarray[Any, Any]:
        """``[T, (B,)]`` bool: the episode ended here, for whichever reason."""
        ended: np.ndarray[Any, Any] = np.logical_or(
            np.asarray(self.terminated, bool), np.asarray(self.truncated, bool)
        )
        return ended

    @property
    def total_reward(self) -> float:
        """Sum of all rewards of real transitions."""
        rewards = np.asarray(self.rewards, np.float64)
        return float(rewards.sum() if self.valid is None else rewards[np.asarray(self.valid, bool)].sum())

    @property
    def length(self) -> int:
        """Number of real transitions, all environments together."""
        return int(np.asarray(self.rewards).size if self.valid is None else np.count_nonzero(self.valid))


@dataclass
class EvalMetrics:
    """A score and what lies behind it. Higher is better.

    Attributes:
        primary_score: what every decision of the loop compares. NaN means that the window held no
            evidence (no episode ended in it).
        metrics: named numbers; ``n`` (episodes), ``standard_error`` and ``std`` of single-episode returns
            where the score is a mean over episodes; ``generalization_gap`` where there was validation.
        episode_id: number of the window.
        timestamp: seconds since the epoch.
    """

    primary_score: float
    metrics: dict[str, float] = field(default_factory=dict)
    episode_id: int = 0
    timestamp: float = field(default_factory=time.time)

    def beats(self, other: EvalMetrics, margin: float = 0.0) -> bool:
        """Whether this score is higher than the other's by more than the margin (score units)."""
        return self.primary_score > other.primary_score + margin

    @property
    def generalization_gap(self) -> float | None:
        """Training score minus validation score, or None without validation."""
        return self.metrics.get("generalization_gap")

    @property
    def n(self) -> int:
        """Number of episodes behind the score; 0 where that is unknown."""
        return int(self.metrics.get("n", 0))

    @property
    def standard_error(self) -> float:
        """Standard error of the score; NaN where it is unknown."""
        return float(self.metrics.get("standard_error", float("nan")))


@dataclass
class HyperparamSet:
    """Named hyperparameters. The set is open: the core never knows a key."""

    params: dict[str, Any]
    episode_id: int = 0
    timestamp: float = field(default_factory=time.time)

    def copy(self) -> HyperparamSet:
        """A set whose ``params`` can be changed without touching this one."""
        return HyperparamSet(dict(self.params), self.episode_id, self.timestamp)


@dataclass(frozen=True)
class PolicySnapshot:
    """A policy on disk with the score that exactly this policy earned."""

    snapshot_id: str
    eval_metrics: EvalMetrics
    hyperparams: HyperparamSet
    weights_path: str
    episode_id: int
    timestamp: float = field(default_factory=time.time)
    policy_version: int = -1


@dataclass(frozen=True)
class ArraySpec:
    """What one observation or action looks like: enough to build networks without an environment.

    Attributes:
        kind: ``box``, ``discrete``, ``multi_discrete`` or ``multi_binary``; ``dict`` for observations of
            several parts, which pipelines flatten; the other kinds are refused by name.
        shape: shape of one item; ``()`` for discrete, ``(n,)`` for dict.
        dtype: NumPy dtype name.
        n: number of choices for ``discrete``, otherwise 0.
        nvec: numbers of choices for ``multi_discrete``, flattened; otherwise empty.
        low, high: bounds for ``box``, flattened; empty when unbounded or discrete.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    n: int = 0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    nvec: tuple[int, ...] = ()


@dataclass(frozen=True)
class SpaceSpec:
    """Observation and action of an environment, and its name for error messages."""

    environment: str
    observation: ArraySpec
    action: ArraySpec


@dataclass(frozen=True)
class NamedArrays:
    """Arrays by name with a small description: the one form of weights, windows and states.

    ``metadata`` holds JSON-able values only. The arrays may be read-only views of a mapped file.
    """

    arrays: Mapping[str, np.ndarray[Any, Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BlobRef:
    """Where to find arrays that are too large for an event.

    Attributes:
        name: logical and the same in every run of the same seed, e.g. ``learner/policy-000012``.
        bytes: size of the stored form.
        checksum: xxh3-128 of the stored form, 32 hex digits.
        owner: node that wrote it and will retire it.
    """

    name: str
    bytes: int
    checksum: str
    owner: str
