"""n-step transitions as they are defined, one environment and one step after the other, in plain Python."""

from __future__ import annotations

from typing import Any, NamedTuple


class Step(NamedTuple):
    """What one environment did; ``ends`` is "terminated", "truncated" or ""."""

    observation: Any
    action: Any
    reward: float
    next_observation: Any
    ends: str


class Transition(NamedTuple):
    """From an observation over ``steps`` steps to another one."""

    observation: Any
    action: Any
    reward: float
    next_observation: Any
    discount: float


def transitions(stream: list[Step], n: int, gamma: float) -> list[Transition]:
    """All transitions of one environment's stream whose ends are known, and those cut off at its end.

    ``sum_{i < k} gamma^i r_{t+i}`` and ``gamma^k V(s_{t+k})`` with k = n, or less at the end of an episode;
    no value after a termination.
    """
    found = []
    for start, first in enumerate(stream):
        reward, last = 0.0, first
        for k, step in enumerate(stream[start : start + n]):
            reward += gamma**k * step.reward
            last, steps = step, k + 1
            if step.ends:
                break
        discount = 0.0 if last.ends == "terminated" else gamma**steps
        found.append(Transition(first.observation, first.action, reward, last.next_observation, discount))
    return found


def weights(priorities: list[float], drawn: list[int], alpha: float, beta: float) -> list[float]:
    """Importance weights of drawn transitions, the greatest of them 1.

    Schaul et al. 2016, section 3.4: ``w_i = (1 / (N P(i)))^beta``, ``P(i) = p_i^alpha / sum_k p_k^alpha``.
    """
    total = sum(p**alpha for p in priorities)
    raw = [(1.0 / (len(priorities) * priorities[i] ** alpha / total)) ** beta for i in drawn]
    return [weight / max(raw) for weight in raw]
