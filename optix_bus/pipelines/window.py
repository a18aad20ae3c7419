"""The arrays of one window while it is being filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from optix_bus.interfaces import Acting
from optix_bus.pipelines.infos import SparseInfos
from optix_bus.pipelines.layout import Layout
from optix_bus.types import EpisodeData

Array = np.ndarray[Any, Any]


class Window:
    """Arrays for ``T`` steps of ``B`` environments, allocated once and never reused.

    ``observations`` and ``starts`` have ``T + 1`` rows: row ``t + 1`` is what step ``t`` led to. Rewards are
    summed in float64 and leave as float32.
    """

    def __init__(
        self, steps: int, environments: int, observation: Layout, action: Layout, gated: bool
    ) -> None:
        self.observations = np.empty((steps + 1, environments, *observation.shape), observation.dtype)
        self.starts = np.zeros((steps + 1, environments), bool)
        self.actions = np.empty((steps, environments, *action.shape), action.dtype)
        #: What the environments saw; the actions themselves where nothing is clipped.
        self.sent = np.empty_like(self.actions) if gated else self.actions
        self.rewards = np.zeros((steps, environments))
        self.terminated = np.zeros((steps, environments), bool)
        self.truncated = np.zeros((steps, environments), bool)
        self.valid: Array | None = None
        self.log_probs: Array | None = None
        self.values: Array | None = None
        self.action_masks: Array | None = None
        #: What was allowed where each step led to, before any reset.
        self.final_action_masks: Array | None = None
        #: What the policy remembered before the first step, ``[B, ...]``.
        self.memory: Array | None = None
        self._infos: dict[int, dict[str, Any]] = {}
        self._finals: list[tuple[int, int, Array]] = []

    def keep_acting(self, step: int, acting: Acting) -> None:
        """Copy what the policy did; its own arrays may be buffers that it uses again."""
        self.actions[step] = acting.actions
        if acting.log_probs is not None:
            if self.log_probs is None:
                self.log_probs = np.zeros(self.rewards.shape, np.float32)
            self.log_probs[step] = acting.log_probs
        if acting.values is not None:
            if self.values is None:
                self.values = np.zeros(self.rewards.shape, np.float32)
            self.values[step] = acting.values

    def keep_masks(self, step: int, masks: Array) -> None:
        """Copy what the environments allow ``[B, entries]``; all was allowed before the first mask."""
        if self.action_masks is None:
            self.action_masks = np.ones((*self.rewards.shape, masks.shape[1]), bool)
        self.action_masks[step] = masks

    def keep_final_masks(self, step: int, masks: Array) -> None:
        """Copy what the environments allow ``[B, entries]`` after this step, before any reset."""
        if self.final_action_masks is None:
            self.final_action_masks = np.ones((*self.rewards.shape, masks.shape[1]), bool)
        self.final_action_masks[step] = masks

    def keep_info(self, step: int, info: dict[str, Any]) -> None:
        """Remember what the environments said with this step."""
        self._infos[step] = info

    def keep_final(self, step: int, row: int, observation: Any) -> None:
        """Remember what a step led to where the array will hold the next episode's first observation."""
        self._finals.append((step, row, np.array(observation, self.observations.dtype)))

    def no_transition(self, step: int, row: int) -> None:
        """What this row did in this step was no transition but a reset."""
        if self.valid is None:
            self.valid = np.ones(self.rewards.shape, bool)
        self.valid[step, row] = False
        self.rewards[step, row] = 0.0
        self.terminated[step, row] = self.truncated[step, row] = False

    def data(self, number: int) -> EpisodeData:
        """The whole window; ``number`` is its own."""
        return EpisodeData(
            observations=self.observations[:-1],
            actions=self.actions,
            rewards=self.rewards.astype(np.float32),
            terminated=self.terminated,
            truncated=self.truncated,
            infos=self.infos(),
            episode_id=number,
            final_observations=self.final_observations(),
            log_probs=self.log_probs,
            values=self.values,
            episode_starts=self.starts[:-1],
            hidden_states=self.memory,
            valid=self.valid,
            action_masks=self.masks(),
            final_action_masks=self.final_action_masks,
        )

    def masks(self) -> Array | None:
        """``[T, B, entries]``; all True where the first mask came with the last step."""
        if self.action_masks is None and self.final_action_masks is not None:
            return np.ones_like(self.final_action_masks)
        return self.action_masks

    def final_observations(self) -> Array:
        """``[T, B, ...]``: the true next observation of each step."""
        following: Array = self.observations[1:].copy()
        for step, row, observation in self._finals:
            following[step, row] = observation
        return following

    def infos(self) -> SparseInfos:
        """One dict per step."""
        return SparseInfos(len(self.rewards), self._infos)
