"""Several policies acting as one: discrete actions combined on probabilities, continuous ones averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optix_bus.agents.acting.categorical import CategoricalPolicy
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.interfaces import Acting, Remembering

Array = np.ndarray[Any, Any]


class EnsemblePolicy:
    """Members with weights.

    * One discrete action: the members' probabilities are averaged by weight, and the action is drawn from
      that, or is its mode. A member that only says what it does (one without ``action_probs_batch``) has put
      all of its probability on that. An average of action *numbers* would mean nothing.
    * Real numbers: the average of the members' actions by weight, ``sum(w_i a_i) / sum(w_i)``.
    * Several discrete numbers at once: each is drawn from the members' answers by weight, or is the one with
      most weight behind it.

    Args:
        members: policies with ``act_batch``; those with ``action_probs_batch``, which gives
            ``[B, n_actions]``, are asked for that instead.
        weights: at least 0, one for each member; if all are 0, they count alike.
        rng: source of all randomness, until `reseed`.

    Raises:
        ConfigurationError: no members, or weights that do not fit.
        Unsuitable: a member remembers its episode, which an ensemble does not keep for it.
    """

    def __init__(
        self, members: Sequence[Any], weights: Sequence[float], rng: np.random.Generator | None = None
    ) -> None:
        shares = np.asarray(weights, np.float64)
        if not members or shares.shape != (len(members),):
            raise ConfigurationError(
                f"found {len(members)} members and {shares.size} weights of an ensemble, expected one weight "
                "for each of at least one member"
            )
        if not (np.isfinite(shares).all() and (shares >= 0.0).all()):
            raise ConfigurationError(f"found the weights {shares.tolist()}, expected finite ones from 0")
        remembering = [type(member).__name__ for member in members if isinstance(member, Remembering)]
        if remembering:
            raise Unsuitable(
                f"{', '.join(remembering)} remember their episodes; an ensemble takes policies without memory"
            )
        total = float(shares.sum())
        self.shares = shares / total if total > 0.0 else np.full(len(members), 1.0 / len(members))
        self._members = list(members)
        self._rng = rng

    def act_batch(
        self,
        observations: Array,
        *,
        deterministic: bool = False,
        action_masks: Array | None = None,
    ) -> Acting:
        """Act for ``[B, *obs_shape]``: actions ``[B, *action_shape]``.

        Log-probabilities are there for a drawn discrete action whose members all know theirs.
        """
        observations = np.asarray(observations)
        known = [probabilities(member, observations) for member in self._members]
        answers = [
            None if probs is not None else np.asarray(_actions(member, observations, deterministic))
            for member, probs in zip(self._members, known, strict=True)
        ]
        given = [answer for answer in answers if answer is not None]
        if all(answer.ndim == 1 and answer.dtype.kind in "iub" for answer in given):
            return self._discrete(known, answers, deterministic, action_masks)
        if len(given) < len(answers) or len({answer.shape for answer in given}) > 1:
            raise Unsuitable("found members with actions of different kinds in one ensemble")
        if any(answer.dtype.kind not in "iub" for answer in given):
            mean = np.tensordot(self.shares, np.stack([np.asarray(a, np.float64) for a in given]), axes=1)
            return Acting(np.asarray(mean, given[0].dtype))
        return Acting(self._by_number(np.stack(given), deterministic))

    def action_probs_batch(self, observations: Array) -> Array | None:
        """The combined probability of each action ``[B, n_actions]``; None where a member does not know its
        own."""
        known = [probabilities(member, np.asarray(observations)) for member in self._members]
        if any(probs is None for probs in known):
            return None
        return np.asarray(self._mixture(known, [None] * len(known), None), np.float32)

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on; members from children of it."""
        self._rng = rng
        for member, child in zip(self._members, rng.spawn(len(self._members)), strict=True):
            if hasattr(member, "reseed"):
                member.reseed(child)

    def _discrete(
        self,
        known: Sequence[Array | None],
        answers: Sequence[Array | None],
        deterministic: bool,
        masks: Array | None,
    ) -> Acting:
        mixture = self._mixture(known, answers, masks)
        if deterministic:
            return Acting(mixture.argmax(axis=1))
        threshold = self._draw(len(mixture))[:, None] * mixture.sum(axis=1, keepdims=True)
        actions = (np.cumsum(mixture, axis=1)[:, :-1] <= threshold).sum(axis=1)
        chosen = mixture[np.arange(len(mixture)), actions]
        if (chosen == 0.0).any():  # rounding has led behind the last action that has any probability
            last = mixture.shape[1] - 1 - (mixture[:, ::-1] > 0.0).argmax(axis=1)
            actions = np.where(chosen == 0.0, last, actions)
            chosen = mixture[np.arange(len(mixture)), actions]
        if any(probs is None for probs in known):
            return Acting(actions)
        return Acting(actions, np.log(chosen).astype(np.float32))

    def _mixture(
        self, known: Sequence[Array | None], answers: Sequence[Array | None], masks: Array | None
    ) -> Array:
        """``[B, n]`` float64; rows sum to 1."""
        n = max(
            [probs.shape[1] for probs in known if probs is not None]
            + [int(answer.max(initial=0)) + 1 for answer in answers if answer is not None]
            + ([masks.shape[1]] if masks is not None else [])
        )
        count = len(next(each for each in (*known, *answers) if each is not None))
        mixture = np.zeros((count, n))
        rows = np.arange(count)
        for share, probs, answer in zip(self.shares, known, answers, strict=True):
            if probs is not None:
                mixture[:, : probs.shape[1]] += share * probs
            elif answer is not None:
                np.add.at(mixture, (rows, answer.astype(np.int64)), share)
        if masks is not None:
            allowed = np.asarray(masks, bool)
            mixture = np.where(allowed, mixture, 0.0)
            # Where every member is sure of something that is forbidden, what is allowed counts alike.
            mixture = np.where(mixture.sum(axis=1, keepdims=True) > 0.0, mixture, allowed)
        return np.asarray(mixture / mixture.sum(axis=1, keepdims=True))

    def _by_number(self, given: Array, deterministic: bool) -> Array:
        """Answers ``[members, B, *shape]`` of whole numbers into one ``[B, *shape]``."""
        votes = np.zeros(given.shape)
        for k in range(len(given)):  # weight of everybody who says the same as member k
            votes[k] = np.tensordot(self.shares, given == given[k], axes=1)
        if deterministic:
            chosen = votes.argmax(axis=0)
        else:
            draws = self._draw(given[0].size).reshape(given[0].shape)
            chosen = (np.cumsum(self.shares)[:-1, *(None,) * draws.ndim] <= draws).sum(axis=0)
        return np.asarray(np.take_along_axis(given, chosen[None], axis=0)[0])

    def _draw(self, count: int) -> Array:
        if self._rng is None:
            self._rng = np.random.default_rng()
        return self._rng.random(count)


def probabilities(member: Any, observations: Array) -> Array | None:
    """The member's own probabilities ``[B, n_actions]``; None where it has none, or does not say."""
    if isinstance(member, CategoricalPolicy):
        return member.action_probs(observations)
    ask = getattr(member, "action_probs_batch", None)
    found = None if ask is None else ask(observations)
    return None if found is None else np.asarray(found, np.float64)


def _actions(member: Any, observations: Array, deterministic: bool) -> Any:
    answer = member.act_batch(observations, deterministic=deterministic)
    return answer.actions if isinstance(answer, Acting) else answer
