"""Complete episodes, chosen by number before they are played: no bias towards short ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optix_bus.interfaces import Acting
from optix_bus.pipelines.acting import Actor
from optix_bus.pipelines.failure import refuse_not_finite
from optix_bus.pipelines.infos import SparseInfos, of_row
from optix_bus.pipelines.layout import ActionGate, layout_of
from optix_bus.pipelines.steppers import Ending, Stepper
from optix_bus.types import EpisodeData

Array = np.ndarray[Any, Any]


@dataclass
class _Record:
    """What a round saw: one entry a step, each ``[B, ...]``; observations have one more."""

    observations: list[Array]
    actions: list[Array] = field(default_factory=list)
    rewards: list[Array] = field(default_factory=list)
    terminated: list[Array] = field(default_factory=list)
    truncated: list[Array] = field(default_factory=list)
    log_probs: list[Array] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    infos: dict[int, dict[str, Any]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    finals: dict[int, Array] = field(default_factory=dict)

    def keep_acting(self, actions: Array, acting: Acting) -> None:
        self.actions.append(actions)
        if acting.log_probs is not None:
            self.log_probs.append(np.array(acting.log_probs, np.float32))
        if acting.values is not None:
            self.values.append(np.array(acting.values, np.float32))


class Evaluation:
    """Plays numbered episodes in rounds: the environments begin together, one episode each, and a round ends
    with its longest episode.

    So an episode's environment follows from its number, environments that restart by themselves need no
    special care, and one that never ends is cut at the limit. An agent that acts row by row may remember its
    last rows, so it plays one episode at a time where environments can be stepped singly.

    Attributes:
        step: the step of the round that is being made, for error messages; 0 is the reset.
        playing: numbers of the episodes of this round, by row.
    """

    def __init__(
        self, stepper: Stepper, actor: Actor, seed_of: Callable[[int], int], limit: int, *, keep_infos: bool
    ) -> None:
        self.step = 0
        self.playing: Sequence[int] = ()
        self._stepper = stepper
        self._actor = actor
        self._seed_of = seed_of
        self._limit = limit
        self._keep_infos = keep_infos
        self._observation = layout_of(stepper.observation_space, "observations", stepper.name)
        self._gate = ActionGate(stepper.action_space, stepper.name)
        self._cut: list[int] = []
        self._clipped = 0

    def play(self, first: int, count: int, deterministic: bool) -> EpisodeData:
        """The episodes ``first`` .. ``first + count - 1``, flat ``[N, ...]``, by number."""
        single = self._actor.by_rows and not self._stepper.steps_all
        width = 1 if single else min(self._stepper.n, count)
        parts: list[EpisodeData] = []
        for begin in range(first, first + count, width):
            self.playing = range(begin, min(begin + width, first + count))
            record = self._round(width, deterministic)
            parts += [self._episode(record, row) for row in range(len(self.playing))]
        return self._join(parts, first)

    def where(self, row: int | None) -> tuple[int, int]:
        """Number of the episode that a row plays, -1 if none or unknown, and the step that is being made."""
        counted = row is not None and row < len(self.playing)
        return (self.playing[row] if counted and row is not None else -1), self.step

    def _round(self, width: int, deterministic: bool) -> _Record:
        stepper, actor, gate = self._stepper, self._actor, self._gate
        rows = stepper.n if stepper.steps_all else width
        now = np.zeros((rows, *self._observation.shape), self._observation.dtype)
        active = list(range(len(self.playing)))
        # Rows that must move although no episode is left for them play numbers that nobody counts.
        begun = range(rows) if stepper.steps_all else active
        seeds = [self._seed_of(self.playing[0] + row) for row in begun]
        self.step = 0
        stepper.reset(begun, seeds, now)
        self._refuse_not_finite(now)
        if actor.follows_starts:
            actor.episode_start(np.ones(rows, bool))
        record = _Record([now])
        while active:
            masks = stepper.masks.now
            acting = actor.act(now, deterministic, None if masks is None else masks[:rows])
            if not record.actions:
                gate.check(acting.actions, rows)
            self.step += 1
            actions = np.array(acting.actions, gate.layout.dtype)
            record.keep_acting(actions, acting)
            now = self._advance(record, now.copy(), actions, active)
            active = [row for row in active if row not in record.lengths]
            if stepper.steps_all and stepper.ending is Ending.MANUAL:
                now = self._revive(record, now, seeds)
        return record

    def _advance(self, record: _Record, following: Array, actions: Array, active: Sequence[int]) -> Array:
        """One step of the active rows; notes which episodes it ended."""
        stepper, gate, rows = self._stepper, self._gate, len(following)
        sent = gate.clip(actions, np.empty_like(actions)) if gate.changes_actions else actions
        if gate.changes_actions:
            differs = (sent != actions).reshape(rows, -1).any(axis=1)
            self._clipped += int(np.count_nonzero(differs[active]))
        rewards, terminated, truncated = np.zeros(rows), np.zeros(rows, bool), np.zeros(rows, bool)
        _, finals, info = stepper.step(sent, following, rewards, terminated, truncated, active)
        self._refuse_not_finite(following)
        refuse_not_finite(rewards, "reward")
        for row in active:
            if self.step >= self._limit and not (terminated[row] or truncated[row]):
                truncated[row] = True
                self._cut.append(self.playing[row])
            if terminated[row] or truncated[row]:
                record.lengths[row] = self.step
                record.finals[row] = np.array(finals.get(row, following[row]), self._observation.dtype)
        record.observations.append(following)
        record.rewards.append(rewards)
        record.terminated.append(terminated)
        record.truncated.append(truncated)
        if info is not None and self._keep_infos:
            record.infos[self.step - 1] = info
        return following

    def _revive(self, record: _Record, now: Array, seeds: Sequence[int]) -> Array:
        """Reset rows that ended, because they will be stepped again although nobody looks at them."""
        over = np.flatnonzero(record.terminated[-1] | record.truncated[-1]).tolist()
        if not over:
            return now
        revived = now.copy()
        self._stepper.reset(over, [seeds[row] for row in over], revived)
        return revived

    def _episode(self, record: _Record, row: int) -> EpisodeData:
        length = record.lengths[row]

        def column(steps: list[Array]) -> Array:
            return np.stack([step[row] for step in steps[:length]])

        observations = column(record.observations)
        following = [step[row] for step in record.observations[1:length]]
        infos = {step: of_row(info, row) for step, info in record.infos.items() if step < length}
        return EpisodeData(
            observations=observations,
            actions=column(record.actions),
            rewards=column(record.rewards),
            terminated=column(record.terminated),
            truncated=column(record.truncated),
            infos=SparseInfos(length, infos),
            final_observations=np.stack([*following, record.finals[row]]),
            log_probs=column(record.log_probs) if record.log_probs else None,
            values=column(record.values) if record.values else None,
        )

    def _join(self, parts: list[EpisodeData], first: int) -> EpisodeData:
        def joined(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else np.concatenate(arrays)

        lengths = [part.length for part in parts]
        begins = np.cumsum([0, *lengths])
        starts = np.zeros(begins[-1], bool)
        starts[begins[:-1]] = True
        told = {
            int(begin) + step: info
            for begin, part in zip(begins, parts, strict=False)
            for step, info in enumerate(part.infos)
            if info
        }
        return EpisodeData(
            observations=joined("observations"),
            actions=joined("actions"),
            rewards=joined("rewards").astype(np.float32),
            terminated=joined("terminated"),
            truncated=joined("truncated"),
            infos=SparseInfos(int(begins[-1]), told),
            final_observations=joined("final_observations"),
            log_probs=joined("log_probs"),
            values=joined("values"),
            episode_starts=starts,
            metadata={
                "steps": int(begins[-1]),
                "episode_numbers": list(range(first, first + len(parts))),
                "episode_returns": [part.total_reward for part in parts],
                "episode_lengths": lengths,
                "cut_episodes": sorted(self._cut),
                "clipped_actions": self._clipped,
            },
        )

    def _refuse_not_finite(self, observations: Array) -> None:
        if self._observation.is_float:
            refuse_not_finite(observations, "observation")
