"""The inner loop: fills windows, step by step, and keeps what lies between two of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from optix_bus.pipelines.acting import Actor
from optix_bus.pipelines.failure import NotFinite, refuse_not_finite
from optix_bus.pipelines.layout import ActionGate, layout_of
from optix_bus.pipelines.ledger import EpisodeLedger
from optix_bus.pipelines.steppers import Ending, Info, Stepper
from optix_bus.pipelines.window import Window

Array = np.ndarray[Any, Any]


class Collector:
    """Steps all rows of a stepper and follows their episodes across windows.

    Attributes:
        observations: ``[B, ...]``, what the next actions answer to; stale in rows that wait for a reset.
        starts: ``[B]`` bool, where that observation is the first of an episode.
        memory: what a recurrent policy remembers of the open episodes, ``[B, ...]``; None for all others.
        waiting: rows to be reset before they act again (`Ending.MANUAL`).
        restarting: rows whose next step is a reset (`Ending.NEXT_STEP`).
        step: the step of the window that is being made, for error messages.
    """

    def __init__(
        self, stepper: Stepper, ledger: EpisodeLedger, seed_of: Callable[[int], int], *, keep_infos: bool
    ) -> None:
        self.stepper = stepper
        self.ledger = ledger
        self.observation = layout_of(stepper.observation_space, "observations", stepper.name)
        self.gate = ActionGate(stepper.action_space, stepper.name)
        self.observations = np.zeros((stepper.n, *self.observation.shape), self.observation.dtype)
        self.starts = np.zeros(stepper.n, bool)
        self.memory: Array | None = None
        self.running = False
        self.waiting: list[int] = []
        self.restarting: list[int] = []
        self.step = 0
        self._resetting = False
        self.actions_checked = False
        self.seed_of = seed_of
        self._keep_infos = keep_infos
        self._finite_by_nature = not self.observation.is_float

    @property
    def keeps_actions(self) -> bool:
        """Whether open episodes can be rebuilt from their number and their actions."""
        return self.stepper.seeding == "each"

    def fill(self, steps: int, actor: Actor) -> Window:
        """One window of ``steps`` steps in every row."""
        with actor.steady():
            return self._filled(steps, actor)

    def _filled(self, steps: int, actor: Actor) -> Window:
        stepper, gate = self.stepper, self.gate
        window = Window(steps, stepper.n, self.observation, gate.layout, gate.changes_actions)
        rows = range(stepper.n)
        self.step = 0
        self._resetting = False
        self.ledger.open_window()
        window.observations[0] = self.observations
        window.starts[0] = self.starts
        if not self.running:
            self.waiting = list(rows)
            self.running = True
            self.memory = None
        if self.memory is not None:
            # The policy may be another version than the last window's, and may have played episodes since.
            actor.load_memory(self.memory)
        for step in range(steps):
            self.step = step
            now, following = window.observations[step], window.observations[step + 1]
            if self.waiting:
                self._restart(window, step)
            if actor.follows_starts and window.starts[step].any():
                actor.episode_start(window.starts[step])
            if not step:
                window.memory = actor.memory()
            masks = stepper.masks.now
            if masks is not None:
                window.keep_masks(step, masks)
            acting = actor.act(now, False, masks)
            if not self.actions_checked:
                gate.check(acting.actions, stepper.n)
                self.actions_checked = True
            window.keep_acting(step, acting)
            if gate.changes_actions:
                gate.clip(window.actions[step], window.sent[step])
            ended, finals, info = stepper.step(
                window.sent[step],
                following,
                window.rewards[step],
                window.terminated[step],
                window.truncated[step],
                rows,
            )
            masks = stepper.masks.now
            if masks is not None:
                window.keep_final_masks(step, masks)
            if not self._finite_by_nature:
                refuse_not_finite(following, "observation")
            refuse_not_finite(window.rewards[step], "reward")
            if info is not None and self._keep_infos:
                window.keep_info(step, info)
            if ended or self.restarting:
                self._turn(window, step, ended, finals, info)
        self.observations = window.observations[steps].copy()
        self.starts = window.starts[steps].copy()
        self.memory = actor.memory()
        self.ledger.close_window(window.rewards, window.sent if self.keeps_actions else None)
        return window

    def where(self, row: int | None) -> tuple[int, int]:
        """Episode of a row and which of its steps is being made; -1 where the row is unknown."""
        if row is None:
            return -1, self.step + 1
        episode, made = self.ledger.at(row, self.step)
        return episode, 0 if self._resetting else made + 1

    def _restart(self, window: Window, step: int) -> None:
        """Reset the rows that wait, just before they act."""
        rows, self.waiting = self.waiting, []
        now = window.observations[step]
        if step:
            for row in rows:
                window.keep_final(step - 1, row, now[row])
        seeds = [self.seed_of(self.ledger.begin(row, step)) for row in rows]
        window.starts[step, rows] = True
        self._resetting = True
        self.stepper.reset(rows, seeds, now)
        if not self._finite_by_nature:
            refuse_not_finite(now, "observation")
        self._resetting = False

    def _turn(
        self, window: Window, step: int, ended: list[int], finals: dict[int, Any], info: Info | None
    ) -> None:
        """Close the books of episodes that ended with this step, open those of episodes that began."""
        restarted, self.restarting = self.restarting, []
        for row in restarted:
            window.no_transition(step, row)
            self._begin_by_itself(window, step, row)
        over = [row for row in ended if row not in restarted]
        for row, final in finals.items():
            if not self._finite_by_nature and not np.isfinite(final).all():
                raise NotFinite(row, "observation", final.tolist())
        for row in over:
            self.ledger.end(row, step, window.rewards)
        if self.stepper.ending is Ending.MANUAL:
            self.waiting = over
        elif self.stepper.ending is Ending.NEXT_STEP:
            self.restarting = over
        else:
            for row in over:
                window.keep_final(step, row, finals[row])
                if window.final_action_masks is not None:
                    window.final_action_masks[step, row] = self.stepper.masks.of_final(row, info or {})
                self._begin_by_itself(window, step, row)

    def _begin_by_itself(self, window: Window, step: int, row: int) -> None:
        self.ledger.begin(row, step + 1)
        window.starts[step + 1, row] = True
