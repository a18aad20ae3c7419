"""Windows of environments side by side: the shell around the collector that the loop talks to."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError, EnvironmentFailure
from optix_bus.interfaces import BasePipeline
from optix_bus.pipelines.acting import Actor
from optix_bus.pipelines.collector import Collector
from optix_bus.pipelines.evaluation import Evaluation
from optix_bus.pipelines.failure import NotFinite, Place, not_finite, raised
from optix_bus.pipelines.ledger import EpisodeLedger
from optix_bus.pipelines.replay import open_episodes, rebuild_episodes
from optix_bus.pipelines.seeding import acting_stream, episode_seed
from optix_bus.pipelines.steppers import StepFailure, Stepper
from optix_bus.pipelines.trial import keeps_to_seeds
from optix_bus.pipelines.window import Window
from optix_bus.types import EpisodeData

#: Steps of an evaluation episode where neither caller nor environment says when it is over.
EPISODE_LIMIT = 100_000


class SteppingPipeline(BasePipeline):
    """Steps ``B`` environments under one agent, a window at a time. Nothing is collected ahead.

    Episodes go on from window to window. Each is seeded by (seed, role, number); numbers are given in the
    order in which episodes begin, lowest environment first. An environment is reset when its next
    observation is needed, not when its episode ends.

    The metadata of a window:

    * ``environment``, ``environments`` (how many), ``role``, ``window``, ``is_live``;
    * ``steps`` and ``total_steps``: transitions in this window, and since the beginning;
    * ``episode_numbers``, ``episode_returns``, ``episode_lengths`` of the episodes that *ended* in this
      window, whole, even where they began windows ago;
    * ``abandoned_episodes``: numbers of episodes given up unfinished before this window, after an error or
      because an evaluation needed their environments;
    * ``episode_seeding``: ``each`` episode by its number; only those after a ``reset`` of all environments;
      or only the ``first`` of them, with one seed for all (see `VectorStepper`);
    * ``clipped_actions``: rows whose action lay outside a Box. The environment saw it clipped, the window
      holds the policy's own;
    * ``deterministic``; and everything in ``labels``, e.g. ``policy_version``.

    Args:
        build: makes the environments; called by `setup`.
        environments: how many these are.
        builds_more: whether a second call makes other environments, or returns the same.
        agent: what acts; see `Actor`. May be given later with `set_agent`.
        window_size: steps of *each* environment in a window.
        seed: of the episodes; None draws one, which the attribute then tells.
        role: keeps the episodes of different pipelines apart, e.g. ``train`` and ``validation``.
        max_evaluation_steps: cut episodes of an evaluation after so many steps; None means the
            environment's own limit, or 100,000 where it has none.
        keep_infos: keep what environments say in ``info``.
    """

    def __init__(
        self,
        build: Callable[[], Stepper],
        environments: int,
        *,
        builds_more: bool,
        agent: Any = None,
        window_size: int = 256,
        seed: int | None = None,
        role: str = "train",
        max_evaluation_steps: int | None = None,
        keep_infos: bool = True,
    ) -> None:
        _at_least_one("window_size", window_size)
        _at_least_one("environments", environments)
        if max_evaluation_steps is not None:
            _at_least_one("max_evaluation_steps", max_evaluation_steps)
        if seed is not None and seed < 0:
            raise ConfigurationError(f"found seed {seed}, expected a number from 0 on")
        self.window_size = window_size
        self.role = role
        self.seed = secrets.randbits(31) if seed is None else seed
        self.max_evaluation_steps = max_evaluation_steps
        #: Merged into the metadata of every window and evaluation.
        self.labels: dict[str, Any] = {}
        self._build = build
        self._environments = environments
        self._builds_more = builds_more
        self._keep_infos = keep_infos
        self._seed_given = seed is not None
        self._actor = Actor(agent) if agent is not None else None
        self._newcomer = agent
        self._ledger = EpisodeLedger(environments)
        self._collector: Collector | None = None
        self._evaluator: Stepper | None = None
        self._windows = 0
        self._total_steps = 0
        self._abandoned: list[int] = []
        self._keeps_to_seeds: bool | None = None

    @property
    def n_envs(self) -> int:
        """How many environments are stepped side by side."""
        return self._environments

    @property
    def repeatable(self) -> bool:
        """Whether the same policies collect the same windows again, and open episodes can be rebuilt.

        Every episode has a seed of its own, none that is open has become too long to be played again, and the
        environments keep to their seeds, which is tried once on others of their kind (`keeps_to_seeds`).
        """
        if not self._ready().keeps_actions:
            return False
        if self._keeps_to_seeds is None:
            seeds = [self.episode_seed(number) for number in range(self._environments)]
            self._keeps_to_seeds = not self._builds_more or keeps_to_seeds(self._build, seeds)
        return self._keeps_to_seeds and all(e is None or e.replayable for e in self._ledger.rows)

    def setup(self) -> None:
        """Build the environments, where they were not given. Calling it again does nothing."""
        self._ready()

    def teardown(self) -> None:
        """Close the environments that this pipeline built; those it was given stay open."""
        self._close(failed=False)

    def set_agent(self, agent: Any, policy_version: int | None = None) -> None:
        """Act with this agent or policy from the next window on."""
        self._actor = Actor(agent)
        self._newcomer = agent
        if self._collector is not None:
            self._collector.actions_checked = False
        if policy_version is not None:
            self.labels["policy_version"] = policy_version

    def episode_seed(self, episode: int) -> int:
        """What the environment of this episode was, or will be, reset with."""
        return episode_seed(self.seed, self.role, episode)

    def episodes(self) -> Iterator[EpisodeData]:
        """Windows, for ever. Where the pipeline has a seed, acting is seeded too, window by window."""
        while True:
            rng = acting_stream(self.seed, self.role, self._windows) if self._seed_given else None
            yield self.collect(self._windows, rng)

    def collect(self, window: int | None = None, rng: np.random.Generator | None = None) -> EpisodeData:
        """Exactly one window.

        Args:
            window: its number, for ``episode_id``; by default the next one.
            rng: source of the policy's randomness in this window; None leaves the policy as it is.

        Raises:
            EnvironmentFailure: an environment raised or gave NaN. Nothing of the window is used; the next
                window begins with new episodes in all environments.
            Unsuitable: the first actions do not fit the environment.
        """
        actor = self._acting()
        collector = self._ready()
        self._introduce(collector.stepper)
        if rng is not None:
            actor.reseed(rng)
        number = self._windows if window is None else window
        try:
            filled = collector.fill(self.window_size, actor)
        except (StepFailure, NotFinite) as broken:
            failure = self._failure(broken, collector.stepper, *collector.where(_row(broken)))
            self._give_up(failed=True)
            raise failure from broken.__cause__
        except BaseException:
            # The environments have moved on and the window has not: there is no way back to its beginning.
            self._give_up(failed=False)
            raise
        self._windows = number + 1
        return self._window(filled, number, collector)

    def evaluate(
        self,
        episodes: int,
        first_episode: int = 0,
        deterministic: bool = True,
        max_steps: int | None = None,
    ) -> EpisodeData:
        """Play the complete episodes numbered ``first_episode`` .. ``first_episode + episodes - 1``.

        Exactly these are scored, however long they last. Arrays are flat ``[N, ...]``, episode after episode
        in the order of their numbers. Windows are not disturbed where the pipeline can build a second set of
        environments; otherwise open episodes are abandoned.

        Args:
            episodes: how many.
            first_episode: number of the first.
            deterministic: ask the policy for its best action, where it can be asked;
                ``metadata["deterministic"]`` says what was done.
            max_steps: cut an episode after so many steps; ``metadata["cut_episodes"]`` then lists it.

        Raises:
            EnvironmentFailure: an environment raised or gave NaN; nothing of the evaluation is used.
        """
        _at_least_one("episodes", episodes)
        if max_steps is not None:
            _at_least_one("max_steps", max_steps)
        actor = self._acting()
        stepper = self._for_evaluation()
        self._introduce(stepper)
        limit = max_steps or self.max_evaluation_steps or stepper.step_limit or EPISODE_LIMIT
        deterministic = deterministic and actor.can_be_deterministic()
        evaluation = Evaluation(stepper, actor, self.episode_seed, limit, keep_infos=self._keep_infos)
        try:
            with actor.evaluating(deterministic), actor.steady():
                data = evaluation.play(first_episode, episodes, deterministic)
        except (StepFailure, NotFinite) as broken:
            failure = self._failure(broken, stepper, *evaluation.where(_row(broken)))
            self._give_up(failed=True)
            raise failure from broken.__cause__
        data.metadata = self._facts(stepper) | data.metadata | {"deterministic": deterministic} | self.labels
        return data

    def progress(self) -> dict[str, Any]:
        """Where the pipeline stands between two windows: plain numbers, and arrays of open episodes.

        Actions of open episodes are kept up to a million steps an episode; a longer one is given up by
        `rebuild`.
        """
        return {
            "version": 1,
            "role": self.role,
            "seed": self.seed,
            "windows": self._windows,
            "total_steps": self._total_steps,
            "abandoned": list(self._abandoned),
            **open_episodes(self._ready()),
        }

    def rebuild(self, progress: dict[str, Any]) -> list[int]:
        """Go to where `progress` was taken, by resetting and stepping the recorded actions again.

        Returns:
            Numbers of the episodes that had to be given up: the environment is not deterministic or not
            seeded by episode, or the episode is too long. The next window lists them as abandoned.

        Raises:
            ConfigurationError: it is the progress of another pipeline.
        """
        for name in ("role", "seed") if self._seed_given else ("role",):
            if progress[name] != getattr(self, name):
                raise ConfigurationError(
                    f"found progress of a pipeline with {name} {progress[name]!r}, expected "
                    f"{getattr(self, name)!r}: its episodes would be others"
                )
        collector = self._ready()
        self.seed = int(progress["seed"])
        try:
            lost = rebuild_episodes(collector, progress)
        except StepFailure as broken:
            row = broken.index
            episode = int(progress["episodes"][row]) if row is not None else -1
            failure = self._failure(broken, collector.stepper, episode, -1 if broken.phase == "step" else 0)
            self._give_up(failed=True)
            raise failure from broken.__cause__
        self._windows = int(progress["windows"])
        self._total_steps = int(progress["total_steps"])
        self._abandoned = [*progress["abandoned"], *lost]
        return lost

    def begin_anew(self, progress: dict[str, Any]) -> list[int]:
        """Go on counting where `progress` was taken, with new episodes everywhere, also where this pipeline
        is built otherwise.

        Returns:
            Numbers of the episodes that are given up. The next window lists them as abandoned.
        """
        self._abandon()
        self._ledger.next_number = int(progress["next_episode"])
        self._windows = int(progress["windows"])
        self._total_steps = int(progress["total_steps"])
        lost = [int(number) for number in progress["episodes"] if number >= 0]
        self._abandoned = [*progress["abandoned"], *lost]
        return lost

    def pass_over(self, window: int, steps: int, ended: int) -> None:
        """Leave out a window that an earlier life has collected and that cannot be collected again.

        Open episodes are given up, and numbers go on behind all that the window can have used.

        Args:
            window: its number.
            steps: its transitions.
            ended: episodes that ended in it.
        """
        self._abandon()
        self._ledger.next_number += ended + self._environments
        self._windows = window + 1
        self._total_steps += steps

    def skip_episodes(self, count: int) -> None:
        """Leave out the next episode numbers, so that other episodes follow. Open ones go on."""
        self._ledger.next_number += count

    def _acting(self) -> Actor:
        if self._actor is None:
            raise ConfigurationError("this pipeline has no agent: build it with agent=..., or call set_agent")
        return self._actor

    def _introduce(self, stepper: Stepper) -> None:
        agent, self._newcomer = self._newcomer, None
        if hasattr(agent, "adopt_spaces"):
            agent.adopt_spaces(stepper)

    def _ready(self) -> Collector:
        if self._collector is None:
            stepper = self._build()
            try:
                self._collector = Collector(
                    stepper, self._ledger, self.episode_seed, keep_infos=self._keep_infos
                )
            except BaseException:
                stepper.close(failed=True)
                raise
        return self._collector

    def _for_evaluation(self) -> Stepper:
        collector = self._ready()
        if self._evaluator is not None:
            return self._evaluator
        if collector.running and self._builds_more:
            self._evaluator = self._build()
            return self._evaluator
        if collector.running:
            self._abandon()
        return collector.stepper

    def _abandon(self) -> None:
        """Forget open episodes; the next window begins with new ones everywhere."""
        self._abandoned += self._ledger.abandon()
        if self._collector is not None:
            self._collector.running = False
            self._collector.waiting, self._collector.restarting = [], []

    def _give_up(self, failed: bool) -> None:
        self._abandon()
        if self._builds_more:
            self._close(failed)

    def _close(self, failed: bool) -> None:
        collector, evaluator = self._collector, self._evaluator
        self._abandon()
        self._collector = self._evaluator = None
        for stepper in (collector.stepper if collector is not None else None, evaluator):
            if stepper is not None:
                stepper.close(failed)

    def _failure(
        self, broken: StepFailure | NotFinite, stepper: Stepper, episode: int, step: int
    ) -> EnvironmentFailure:
        seed = self.episode_seed(episode) if episode >= 0 and stepper.seeding == "each" else None
        index = _row(broken)
        place = Place(stepper.name, index, self.role, episode, step, seed)
        if isinstance(broken, NotFinite):
            return not_finite(place, broken)
        return raised(place, broken.__cause__)

    def _facts(self, stepper: Stepper) -> dict[str, Any]:
        return {
            "environment": stepper.name,
            "environments": stepper.n,
            "role": self.role,
            "is_live": self.is_live,
            "episode_seeding": stepper.seeding,
        }

    def _window(self, filled: Window, number: int, collector: Collector) -> EpisodeData:
        ended, self._abandoned, abandoned = collector.ledger.ended, [], self._abandoned
        data = filled.data(number)
        self._total_steps += data.length
        data.metadata = self._facts(collector.stepper) | {
            "window": number,
            "steps": data.length,
            "total_steps": self._total_steps,
            "episode_numbers": [episode.number for episode in ended],
            "episode_returns": [episode.total for episode in ended],
            "episode_lengths": [episode.steps for episode in ended],
            "abandoned_episodes": abandoned,
            "clipped_actions": collector.gate.take_clipped(),
            "deterministic": False,
            **self.labels,
        }
        return data


def _row(broken: StepFailure | NotFinite) -> int | None:
    return broken.row if isinstance(broken, NotFinite) else broken.index


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ConfigurationError(f"found {name} = {value}, expected at least 1")
