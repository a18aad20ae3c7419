"""Gymnasium vector environments as steppers, in all three ways of beginning new episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.pipelines.environments import name_of, step_limit
from optix_bus.pipelines.flattening import flat_space, flattener
from optix_bus.pipelines.masks import ActionMasks
from optix_bus.pipelines.steppers import Array, Ending, Info, Seeding, StepFailure, Stepped

#: How long to wait for the process behind a closed pipe; only the error message depends on it.
DYING_SECONDS = 5.0


class VectorStepper:
    """A Gymnasium vector environment in any of its autoreset modes.

    ``SyncVectorEnv`` and ``AsyncVectorEnv`` take a seed for each row when they are reset, others only one
    for all. Where episodes restart by themselves, only the first ones can be seeded.
    """

    steps_all = True

    def __init__(self, environments: Any, *, owned: bool) -> None:
        self.n = int(environments.num_envs)
        self.name = name_of(environments)
        self.step_limit = step_limit(environments)
        self.observation_space = flat_space(environments.single_observation_space, self.name)
        self._flat = flattener(environments.single_observation_space)
        self.action_space = environments.single_action_space
        self.ending = _ending_of(environments)
        self.masks = ActionMasks(self.action_space, self.n)
        self._environments = environments
        self._owned = owned
        self._seeds_rows = _seeds_rows(environments)
        self.seeding: Seeding = "first"
        if self._seeds_rows:
            self.seeding = "each" if self.ending is Ending.MANUAL else "reset"

    def reset(self, rows: Sequence[int], seeds: Sequence[int], observations: Array) -> None:
        """Begin episodes in these rows; all of them where rows cannot be reset singly."""
        try:
            if len(rows) == self.n:
                seed = list(seeds) if self._seeds_rows else seeds[0]
                begun, infos = self._environments.reset(seed=seed)
                observations[:] = self._flat(begun)
                self.masks.note_all(infos, rows)
                return
            by_row: list[int | None] = [None] * self.n
            mask = np.zeros(self.n, bool)
            for row, seed in zip(rows, seeds, strict=True):
                by_row[row], mask[row] = seed, True
            begun, infos = self._environments.reset(seed=by_row, options={"reset_mask": mask})
            observations[mask] = self._flat(begun)[mask]
            self.masks.note_all(infos, rows)
        except Exception as error:
            raise StepFailure(self._culprit(error), "reset") from error

    def step(
        self,
        actions: Array,
        observations: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        rows: Sequence[int],
    ) -> Stepped:
        """One step of all rows, whatever ``rows`` says."""
        try:
            seen, reward, done, cut, infos = self._environments.step(actions)
            self.masks.note_all(infos, range(self.n))
        except Exception as error:
            raise StepFailure(self._culprit(error), "step") from error
        observations[:] = self._flat(seen)
        rewards[:] = reward
        terminated[:] = done
        truncated[:] = cut
        over = np.logical_or(done, cut)
        if not over.any():
            return [], {}, infos or None
        ended = np.flatnonzero(over).tolist()
        finals: dict[int, Any] = {}
        if self.ending is Ending.SAME_STEP:
            finals, infos = _finals(ended, infos, self._flat)
        return ended, finals, infos or None

    def close(self, failed: bool) -> None:
        """Close the environments if they were built for this stepper."""
        if not self._owned:
            return
        if failed and hasattr(self._environments.unwrapped, "processes"):
            # The dead worker cannot answer a polite close, and the others may wait for it.
            self._environments.close(terminate=True)
        else:
            self._environments.close()

    def _culprit(self, error: Exception) -> int | None:
        """Which worker process raised or died, where the environments have processes."""
        inner = self._environments.unwrapped
        for index, pipe in enumerate(getattr(inner, "parent_pipes", ())):
            if pipe is None:
                return index
        sentinels = [process.sentinel for process in getattr(inner, "processes", ())]
        if sentinels and isinstance(error, EOFError | OSError):
            # The pipe of a dying process closes a moment before the process is gone.
            gone = set(wait(sentinels, timeout=DYING_SECONDS))
            return next((index for index, sentinel in enumerate(sentinels) if sentinel in gone), None)
        return None


def _ending_of(environments: Any) -> Ending:
    mode = environments.metadata.get("autoreset_mode")
    name = getattr(mode, "name", str(mode)).upper()
    known = {"NEXT_STEP": Ending.NEXT_STEP, "SAME_STEP": Ending.SAME_STEP, "DISABLED": Ending.MANUAL}
    if name not in known:
        raise ConfigurationError(
            f"{environments} does not say how it begins new episodes: found metadata['autoreset_mode'] = "
            f"{mode!r}, expected one of gymnasium.vector.AutoresetMode; without it the row after an episode "
            "end cannot be told from a transition"
        )
    return known[name]


def _seeds_rows(environments: Any) -> bool:
    from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

    # Gymnasium asks of an environment with autoreset disabled that it takes seeds by row.
    inner = environments.unwrapped
    return isinstance(inner, SyncVectorEnv | AsyncVectorEnv) or _ending_of(environments) is Ending.MANUAL


def _finals(ended: list[int], infos: Info, flat: Callable[[Any], Any]) -> tuple[dict[int, Any], Info]:
    """The last observations of ended episodes, and the infos without them."""
    last = infos.get("final_obs")
    if last is None:
        raise ConfigurationError(
            "found a vector environment with autoreset SAME_STEP that gives no infos['final_obs'], only "
            f"{sorted(infos)}: without it the value of a truncated step is unknown; "
            "use AutoresetMode.NEXT_STEP or DISABLED"
        )
    rest = {key: value for key, value in infos.items() if key not in ("final_obs", "_final_obs")}
    return {row: np.array(flat(last[row])) for row in ended}, rest
