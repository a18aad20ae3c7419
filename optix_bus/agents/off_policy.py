"""What every off-policy agent keeps beside its networks: a replay and two clocks, in whichever framework.

The clocks count steps of the environment and gradient steps, never windows: how experience is cut into
windows does not change how much is learnt from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optix_bus.agents.experience import Experience
from optix_bus.agents.storage import read_state, save_state
from optix_bus.errors import CheckpointError
from optix_bus.rl.replay import ReplayBuffer, Transitions
from optix_bus.rl.replay_undo import undo_of
from optix_bus.types import NamedArrays

Array = np.ndarray[Any, Any]
_FILE = "replay.safetensors"


class OffPolicyMemory:
    """The replay, made with the first window, and the clocks.

    Hyperparameters that it reads: ``replay_capacity``, ``n_step``, ``gamma``, ``per_alpha``, ``per_beta``,
    ``per_beta_steps``, ``learning_starts``, ``train_freq``, ``gradient_steps`` and, where there is one,
    ``updates_per_step``. All may change between two windows; the content stays.

    Args:
        path: folder for the files of a mapped replay, see `ReplayBuffer`.

    Attributes:
        environment_steps: steps of the environment that were learnt from, all environments together.
        gradient_steps: gradient steps so far.
        replay: None before the first window.
    """

    def __init__(self, path: str | None = None) -> None:
        self.environment_steps = 0
        self.gradient_steps = 0
        self.replay: ReplayBuffer | None = None
        self._path = path

    def take(self, experience: Experience, params: Mapping[str, Any]) -> tuple[int, Callable[[], None]]:
        """Store a window. Returns how many gradient steps are due, and a function that takes it all back."""
        before = self.replay
        replay = self._prepared(experience, params)
        steps = int(experience.valid.sum())
        widened = before is not None and before.mask_entries != replay.mask_entries
        restore, clocks = undo_of(replay, steps), (self.environment_steps, self.gradient_steps)
        replay.add(experience)
        self.environment_steps += steps

        def undo() -> None:
            restore()
            self.replay = before if before is None or widened else replay
            self.environment_steps, self.gradient_steps = clocks

        due = gradient_steps_due(clocks[0], self.environment_steps, params)
        return (due if len(replay) else 0), undo

    def sample(self, batch_size: int, rng: np.random.Generator, params: Mapping[str, Any]) -> Transitions:
        """Transitions ``[batch_size]``; the correction of priorities grows with the gradient steps."""
        assert self.replay is not None
        return self.replay.sample(batch_size, rng, self.beta(params))

    def beta(self, params: Mapping[str, Any]) -> float:
        """``per_beta``, rising linearly to 1 over ``per_beta_steps`` gradient steps.

        Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section 3.4.
        """
        done = min(self.gradient_steps / params["per_beta_steps"], 1.0)
        return float(params["per_beta"] + (1.0 - params["per_beta"]) * done)

    def explores_at_random(self, params: Mapping[str, Any]) -> bool:
        """Whether learning has not started: until then actions are drawn uniformly."""
        return bool(self.environment_steps < params["learning_starts"])

    def clocks(self) -> dict[str, int]:
        """The clocks, for the metadata of a state."""
        return {"environment_steps": self.environment_steps, "gradient_steps": self.gradient_steps}

    def load_clocks(self, clocks: Mapping[str, Any]) -> None:
        """Go on from what `clocks` returned."""
        self.environment_steps = int(clocks.get("environment_steps", 0))
        self.gradient_steps = int(clocks.get("gradient_steps", 0))

    def state(self) -> NamedArrays:
        """The replay as named arrays; none before the first window. The clocks are not part of it."""
        return NamedArrays({}, {"replay": None}) if self.replay is None else self.replay.state()

    def load_state(self, state: NamedArrays, params: Mapping[str, Any]) -> None:
        """Go on with what `state` returned.

        Raises:
            CheckpointError: it is no state of a replay, or of one of another kind; nothing has changed then.
        """
        if "replay" not in state.metadata:
            raise CheckpointError(
                f"found no replay in the state (metadata: {', '.join(state.metadata) or 'empty'}), expected "
                "what replay_state() of this agent returned"
            )
        if state.metadata["replay"] is None:
            self.replay = None
            return
        observations, actions = (state.arrays.get(name) for name in ("observations", "actions"))
        if observations is None or actions is None:
            raise CheckpointError("the saved replay lacks its observations or actions; it is damaged")
        entries = _entries(state.arrays.get("next_masks"))
        replay = self.replay or self._made(observations, actions, params, entries)
        if entries and not replay.mask_entries:
            replay = replay.resized(replay.capacity, mask_entries=entries)
        replay.load_state(state)
        self.replay = replay

    def save(self, path: str) -> None:
        """Write `state` beside the weights that ``save_weights(path)`` wrote."""
        save_state(self.state(), str(_beside(path)))

    def load(self, path: str, params: Mapping[str, Any]) -> None:
        """Read what `save` wrote; where there is nothing, the replay stays as it is."""
        if _beside(path).is_file():
            self.load_state(read_state(str(_beside(path))), params)

    def _prepared(self, experience: Experience, params: Mapping[str, Any]) -> ReplayBuffer:
        entries = _entries(experience.next_masks)
        if self.replay is None:
            seen, done = experience.observations, experience.actions
            self.replay = self._made(seen[0], done[0], params, entries)
        replay = self.replay
        if entries and not replay.mask_entries:
            replay = self.replay = replay.resized(replay.capacity, mask_entries=entries)
        if (replay.capacity, replay.n_step) != (params["replay_capacity"], params["n_step"]):
            replay = self.replay = replay.resized(params["replay_capacity"], params["n_step"])
        replay.gamma, replay.alpha = params["gamma"], params["per_alpha"]
        return replay

    def _made(
        self, observations: Array, actions: Array, params: Mapping[str, Any], mask_entries: int
    ) -> ReplayBuffer:
        return ReplayBuffer(
            params["replay_capacity"],
            (observations.shape[1:], observations.dtype),
            (actions.shape[1:], actions.dtype),
            n_step=params["n_step"],
            gamma=params["gamma"],
            alpha=params["per_alpha"],
            path=self._path,
            mask_entries=mask_entries,
        )


def gradient_steps_due(before: int, after: int, params: Mapping[str, Any]) -> int:
    """Gradient steps that a window owes whose steps moved the clock of the environment from one to the other.

    At every multiple of ``train_freq`` beyond ``learning_starts`` there are ``gradient_steps``; where that is
    None, ``updates_per_step`` for each of the ``train_freq`` steps.
    """
    every = params["train_freq"]
    start = max(before, min(params["learning_starts"], after))
    times = after // every - start // every
    each = params["gradient_steps"]
    if each is None:
        each = every * params.get("updates_per_step", 1)
    return int(times * each)


def _entries(masks: Array | None) -> int:
    """Of an action mask; 0 where there are none."""
    return 0 if masks is None else int(masks.shape[-1])


def _beside(path: str) -> Path:
    place = Path(path)
    if place.suffix == ".safetensors" and not place.is_dir():
        return place.with_suffix(".replay.safetensors")
    return place / _FILE
