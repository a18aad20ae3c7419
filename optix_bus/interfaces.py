"""What a user implements: six methods for an agent, and small interfaces for the rest of the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from optix_bus.types import (
    EpisodeData,
    EvalMetrics,
    HyperparamSet,
    LoopState,
    NamedArrays,
    PolicySnapshot,
)


@dataclass(frozen=True)
class Acting:
    """What a policy did for a batch of ``B`` observations.

    Attributes:
        actions: ``[B, *action_shape]`` in the units of the environment.
        log_probs: ``[B]`` float32 log-probability of each action, None for a deterministic choice.
        values: ``[B]`` float32 value estimates, where the policy has them at no cost.
    """

    actions: np.ndarray[Any, Any]
    log_probs: np.ndarray[Any, Any] | None = None
    values: np.ndarray[Any, Any] | None = None


@runtime_checkable
class Policy(Protocol):
    """The acting half of an agent: all that a pipeline needs."""

    def act_batch(self, observations: np.ndarray[Any, Any], *, deterministic: bool = False) -> Acting:
        """Act for ``[B, *obs_shape]`` observations, one row an environment."""
        ...

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A policy with a memory of each open episode, e.g. the hidden state of a recurrent network.

    A new policy version arrives with every window, and a process may be killed between any two: so the
    pipeline keeps the memory, hands it to whichever policy acts next and has it in its own state. Rows are
    environments, in the order of the observations.
    """

    def episode_start(self, mask: np.ndarray[Any, Any]) -> None:
        """Forget the rows of ``[B]`` in which an episode begins with the next observation."""
        ...

    def memory(self) -> np.ndarray[Any, Any] | None:
        """A copy of what is remembered before the next observation, ``[B, ...]``; None before the first."""
        ...

    def load_memory(self, memory: np.ndarray[Any, Any] | None) -> None:
        """Go on with what `memory` returned, perhaps of another version of the policy.

        What has another shape than this policy's own, because the networks were changed, is forgotten.
        """
        ...


class BaseAgent(ABC):
    """Anything that can act and learn from sequential data. Six methods are enough.

    The optional methods make an agent faster to move (`state`/`load_state`), faster to act
    (`act_batch`), reproducible (`reseed`) and honest in evaluation (`evaluation_mode`).
    """

    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = {}
    default_log_params: ClassVar[Sequence[str]] = ()
    default_min_episodes_before_dormant: ClassVar[int] = 0

    @abstractmethod
    def act(self, observation: Any) -> Any:
        """Choose an action for one observation; any action type."""

    @abstractmethod
    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Learn from one window; returns named diagnostics (numbers)."""

    @abstractmethod
    def get_hyperparams(self) -> HyperparamSet:
        """The hyperparameters in force."""

    @abstractmethod
    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Put hyperparameters into force; called between learning and the next window."""

    @abstractmethod
    def save_weights(self, path: str) -> None:
        """Write the policy to ``path`` (a file or a folder of the agent's own form)."""

    @abstractmethod
    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote."""

    @property
    def is_on_policy(self) -> bool:
        """False for agents with a replay buffer: those are not rolled back on degradation."""
        return True

    def average_weights(self, paths: Sequence[str]) -> None:
        """Load the mean of several saved weights."""
        raise NotImplementedError(f"{type(self).__name__} does not average weights")  # optional, abstract

    def perturb_weights(self, noise_scale: float) -> None:
        """Multiply every weight by ``1 + noise_scale * N(0, 1)``."""
        raise NotImplementedError(f"{type(self).__name__} does not perturb weights")  # optional, abstract

    def export_onnx(self, path: str) -> None:
        """Write the policy as an ONNX graph."""
        raise NotImplementedError(f"{type(self).__name__} does not export ONNX")  # optional, abstract

    def teardown(self) -> None:
        """Release what the agent holds (device memory, files). Called once, at the end."""
        return None


@runtime_checkable
class ArrayAgent(Protocol):
    """An agent whose policy travels as named arrays, so that other processes can act with it.

    ``state()`` returns everything that a restored agent needs to go on: weights, optimizer moments,
    normalisers. Its metadata holds ``policy``, the description from which
    `optix_bus.agents.acting.load_policy` builds the acting half without a framework.
    """

    def state(self) -> NamedArrays:
        """Everything that a restored agent needs to go on."""
        ...

    def load_state(self, state: NamedArrays) -> None:
        """Go on from there."""
        ...

    def policy(self) -> Policy:
        """The acting half alone; it does not follow later learning."""
        ...

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw everything random from this generator from now on."""
        ...


@runtime_checkable
class Replaying(Protocol):
    """An agent with a replay, which is too large to travel with each version of the policy.

    ``state()`` of such an agent leaves the replay out; what is restored for good, a cut of a run or saved
    weights, holds both.
    """

    def replay_state(self) -> NamedArrays:
        """Everything that was experienced and is still kept, as copies."""
        ...

    def load_replay_state(self, state: NamedArrays) -> None:
        """Go on with it; called after `load_state`, with the hyperparameters in force."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """An evaluator, optimizer or callback with a memory that should outlive its process.

    ``state()`` returns plain values (numbers, texts, arrays, and lists and mappings of them) without stamps;
    they travel as JSON, so keys come back as texts and tuples as lists. Without these two methods a node that
    is restarted begins with a fresh object.
    """

    def state(self) -> dict[str, Any]:
        """Everything that `load_state` needs to go on from here."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there. Settings are those of this object, whatever the state's were."""
        ...


class BasePipeline(ABC):
    """Where experience comes from. `episodes` is a generator of windows; the loop asks for one at a time."""

    @property
    def is_live(self) -> bool:
        """True where time does not wait for the loop."""
        return False

    @abstractmethod
    def setup(self) -> None:
        """Open what the pipeline needs; called before the first window."""

    @abstractmethod
    def episodes(self) -> Iterator[EpisodeData]:
        """Windows, for ever. Collecting starts when the next one is asked for, never before."""

    @abstractmethod
    def teardown(self) -> None:
        """Close what `setup` opened; called once, also after an error."""

    def set_agent(self, agent: Any) -> None:
        """The agent to act with, for pipelines that were built without one."""
        raise NotImplementedError(f"{type(self).__name__} takes its agent when it is built")  # optional


class BaseEvaluator(ABC):
    """Turns experience into a score. Higher is better. One with a memory is `Stateful`."""

    @abstractmethod
    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        """Score one training window."""

    def score_validation(self, episode_data: EpisodeData) -> EvalMetrics:
        """Score one set of validation episodes; by default like a training window."""
        return self.score(episode_data, {})

    def combine(self, train: EvalMetrics, val: EvalMetrics) -> EvalMetrics:
        """The score the loop decides by: validation, with ``generalization_gap = train - val`` beside it."""
        metrics = {f"train_{key}": value for key, value in train.metrics.items()}
        metrics.update(val.metrics)
        metrics["train_score"] = train.primary_score
        metrics["val_score"] = val.primary_score
        metrics["generalization_gap"] = train.primary_score - val.primary_score
        return EvalMetrics(val.primary_score, metrics, val.episode_id, val.timestamp)

    def compare(self, candidate: EvalMetrics, baseline: EvalMetrics) -> bool:
        """Whether the candidate is better."""
        return candidate.beats(baseline)


class BaseOptimizer(ABC):
    """Tunes hyperparameters inside one run, one suggestion for each evaluated window.

    One that remembers anything should be `Stateful`, or a restart makes it forget.
    """

    @abstractmethod
    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: list[EvalMetrics]
    ) -> HyperparamSet:
        """The hyperparameters to use from now on, given all evaluations so far, oldest first."""

    def on_improvement(self, metrics: EvalMetrics) -> None:
        """The last evaluation was an improvement."""
        return None

    def on_plateau(self, metrics_history: list[EvalMetrics]) -> None:
        """The last evaluation confirmed a plateau."""
        return None

    @property
    def is_probing(self) -> bool:
        """True while the hyperparameters in force are a probe: a bad score is then no degradation."""
        return False


class LoopCallback:
    """Hooks into the loop. All run in the process that drives it; one that raises is logged, counted
    and called again at its next event, and never hurts the loop. After a restart a hook may be called again
    for what it has already heard; one with a memory is `Stateful`."""

    def on_loop_start(self) -> None:
        """Before the first window."""

    def on_loop_stop(self) -> None:
        """After the best policy was restored."""

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        """After each window; ``eval_metrics`` is None where the window was not evaluated."""

    def on_improvement(self, snapshot: PolicySnapshot) -> None:
        """A new best policy is on disk."""

    def on_plateau(self, episode_id: int, state: LoopState) -> None:
        """The loop cooled down."""

    def on_dormant(self, episode_id: int) -> None:
        """The loop decided that training is done."""

    def on_degradation(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """The score fell clearly below the best."""

    def on_hyperparam_update(self, old_params: dict[str, Any], new_params: dict[str, Any]) -> None:
        """Other hyperparameters came into force."""
