"""What every agent does alike, in whichever framework: acting with its present weights, moving its state."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np

from optix_bus.agents.acting.categorical import CategoricalPolicy
from optix_bus.agents.acting.live import LiveActing
from optix_bus.agents.cards import Card
from optix_bus.agents.onnx_graph import export_onnx
from optix_bus.agents.storage import mean_arrays, read_state, save_state
from optix_bus.agents.tunable import at_clocks, changed, complete
from optix_bus.errors import CheckpointError, ConfigurationError
from optix_bus.interfaces import Acting, BaseAgent
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays

Array = np.ndarray[Any, Any]


class Statistics(Protocol):
    """A normaliser, as far as saving goes."""

    def state(self) -> dict[str, Array]:
        """Its numbers, by name."""
        ...

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` returned."""
        ...


class Parts(Protocol):
    """Everything that learning changes, as named arrays and back."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Beginnings of the names of all arrays but those of optimizers."""
        ...

    def arrays(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Copies of all arrays, and a JSON-able description of each optimizer by its name."""
        ...

    def load(self, arrays: Mapping[str, Array], descriptions: Mapping[str, Any] | None) -> None:
        """Put arrays into force, all or none; without descriptions the optimizers start anew."""
        ...

    def perturb(self, noise_scale: float, rng: np.random.Generator) -> None:
        """Multiply every parameter by ``1 + noise_scale * N(0, 1)``."""
        ...


class Learner(BaseAgent):
    """A `BaseAgent` around named networks and optimizers; `learn` is left to the algorithm.

    A framework's subclass answers `_parts`, `_first_rate`, `_apply_learning_rate`, `_make_acting` and
    `reset_cache`; an algorithm's sets ``card`` and answers `_optimizers`, `_actor_name` and, where it is not
    categorical, `_head`. What they answer from is in place before `__init__` is called.

    Args:
        hyperparams: what differs from the card's defaults; the learning rate is by default that of the first
            optimizer.
        obs_normalizer: scales observations of acting.
        reward_normalizer: kept and moved with the state.
        seed: of acting, learning and perturbing.
    """

    card: ClassVar[Card]
    _learning = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Count what every ``learn`` learns from, so that no algorithm can forget its schedules."""
        super().__init_subclass__(**kwargs)
        learn: Any = cls.learn  # perhaps from a class that is mixed in
        if not getattr(learn, "counts", False) and not getattr(learn, "__isabstractmethod__", False):
            cls.learn = _counted(learn)  # type: ignore[method-assign] # the same signature, wrapped

    def __init__(
        self,
        hyperparams: HyperparamSet | Mapping[str, Any] | None,
        obs_normalizer: ObsNormalizer | None,
        reward_normalizer: RewardNormalizer | None,
        seed: int,
    ) -> None:
        if reward_normalizer is not None and not isinstance(reward_normalizer, RewardNormalizer):
            raise ConfigurationError(
                f"reward_normalizer is a {type(reward_normalizer).__name__}, expected a RewardNormalizer"
            )
        self._obs_normalizer = obs_normalizer
        self._reward_normalizer = reward_normalizer
        self._hyperparams = complete(self.card, hyperparams, learning_rate=self._first_rate())
        self._apply_learning_rate()
        #: Version of the policy that acts now; one more after each window, and after every other change of
        #: the weights. Whoever numbers policies himself may set it.
        self.policy_version = 0
        rng = np.random.default_rng(seed)
        self._learning_rng = rng.spawn(1)[0]
        self._acting = self._make_acting(rng)
        self._deterministic = False

    @property
    @abstractmethod
    def _optimizers(self) -> Mapping[str, Any]:
        """The optimizers, by the name that their arrays carry."""

    @property
    @abstractmethod
    def _parts(self) -> Parts:
        """Everything that learning changes."""

    @abstractmethod
    def _first_rate(self) -> float:
        """The learning rate of the first optimizer as the user made it."""

    @abstractmethod
    def _apply_learning_rate(self) -> None:
        """Give the learning rate in force to the optimizers, in the proportions that the user gave them."""

    @abstractmethod
    def _make_acting(self, rng: np.random.Generator) -> LiveActing:
        """What acts for the actor, with this stream."""

    @abstractmethod
    def reset_cache(self) -> None:
        """Look at the networks again before the next action."""

    @property
    def _actor_name(self) -> str:
        """Which of the networks acts."""
        return "actor"

    def _head(self) -> Mapping[str, Any]:
        """What becomes of the outputs of the actor, see `LiveActing`."""
        return {"head": "categorical"}

    @property
    def _statistics(self) -> dict[str, Statistics]:
        normalizers: dict[str, Statistics | None] = {
            "reward_normalizer": self._reward_normalizer,
            "obs_normalizer": self._obs_normalizer,
        }
        return {name: each for name, each in normalizers.items() if each is not None}

    @property
    def is_on_policy(self) -> bool:
        """As the card says."""
        return self.card.is_on_policy

    def act(self, observation: Any) -> Any:
        """Sample an action for one observation ``[*obs_shape]``: an int, or an array in its own units."""
        action = self.act_batch(np.asarray(observation)[None]).actions[0]
        return int(action) if np.ndim(action) == 0 and np.asarray(action).dtype.kind == "i" else action

    def act_batch(self, observations: np.ndarray[Any, Any], *, deterministic: bool = False) -> Acting:
        """Act for ``[B, *obs_shape]``: actions ``[B, *action_shape]``, log-probabilities float32 ``[B]``."""
        acting: Acting = self._acting.policy().act_batch(
            observations, deterministic=deterministic or self._deterministic
        )
        return acting

    def action_probs_batch(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """Probability of each of several discrete actions for ``[B, *obs_shape]``, ``[B, n_actions]``; None
        for a policy of another kind."""
        policy = self._acting.policy()
        return policy.action_probs(observations) if isinstance(policy, CategoricalPolicy) else None

    def policy(self) -> Any:
        """The acting half (a `Policy`) with the weights of now; later learning does not change it."""
        return self._acting.snapshot()

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Within it, acting is deterministic."""
        before, self._deterministic = self._deterministic, True
        try:
            yield
        finally:
            self._deterministic = before

    @contextmanager
    def steady_weights(self) -> Iterator[None]:
        """Within it, a window of a pipeline, weights change only through methods of this agent."""
        with self._acting.steady():
            yield

    def reseed(self, rng: np.random.Generator) -> None:
        """Act from this generator, exactly as `policy` would; learn and perturb from a child of it.

        Acting more or less therefore never changes how is learnt.
        """
        self._learning_rng = rng.spawn(1)[0]
        self._acting.reseed(rng)

    def get_hyperparams(self) -> HyperparamSet:
        """A copy of all hyperparameters in force; a schedule shows as its level, see `Schedule`."""
        return self._hyperparams.copy()

    def set_hyperparams(self, hyperparams: HyperparamSet | Mapping[str, Any]) -> None:
        """Put the given hyperparameters into force; those not named stay.

        A schedule may stand for a number. A number for one that is scheduled stretches the schedule.

        Raises:
            ConfigurationError: an unknown name, a wrong type or a value out of range; nothing has changed.
        """
        self._hyperparams = changed(self.card, self._hyperparams, hyperparams)
        self._apply_learning_rate()

    def state(self) -> NamedArrays:
        """Weights, moments and statistics, with the description of the policy.

        It depends on what was learnt, not on what was acted: random streams are not part of it.
        """
        arrays, optimizers = self._parts.arrays()
        metadata = {
            "algorithm": self.card.algorithm,
            "policy": self._acting.description,
            "policy_version": self.policy_version,
            "hyperparams": dict(self._hyperparams.params),
            "clocks": dict(self._hyperparams.clocks),
            **optimizers,
        }
        return NamedArrays(arrays, metadata)

    def load_state(self, state: NamedArrays) -> None:
        """Go on from a state. The hyperparameters in force stay, so that a tuner keeps what it has set.

        Raises:
            CheckpointError: the state belongs to other networks; nothing has changed then.
        """
        missing = [name for name in self._optimizers if name not in state.metadata]
        if missing:
            raise CheckpointError(
                f"found a state without {', '.join(missing)} (metadata: "
                f"{', '.join(state.metadata) or 'empty'}), expected one that state() of this agent made"
            )
        self._parts.load(state.arrays, {name: state.metadata[name] for name in self._optimizers})
        self._set_clocks(state.metadata.get("clocks", {}))
        self._weights_changed(int(state.metadata.get("policy_version", self.policy_version + 1)))

    def save_weights(self, path: str) -> None:
        """Write `state` to ``path``: a file if it ends in ``.safetensors``, otherwise a folder."""
        save_state(self.state(), path)

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote; hyperparameters in force stay."""
        self.load_state(read_state(path))

    def export_onnx(self, path: str, observation_shape: Sequence[int] | None = None) -> None:
        """Write the deterministic policy as an ONNX graph, see `optix_bus.agents.onnx_graph.export_onnx`.

        Raises:
            Unsuitable: its network is one that only its framework can run.
            MissingExtra: the package ``onnx`` is not installed.
        """
        export_onnx(self.state(), path, observation_shape)

    def average_weights(self, paths: Sequence[str]) -> None:
        """Load the mean of several saved weights; the moments of the optimizers start anew."""
        parts = self._parts
        parts.load(mean_arrays([read_state(path) for path in paths], parts.prefixes), None)
        self._weights_changed(self.policy_version + 1)

    def perturb_weights(self, noise_scale: float) -> None:
        """Multiply every weight of every network by ``1 + noise_scale * N(0, 1)``."""
        self._parts.perturb(noise_scale, self._learning_rng)
        self._weights_changed(self.policy_version + 1)

    def _weights_changed(self, version: int) -> None:
        self.reset_cache()
        self.policy_version = version

    def _set_clocks(self, clocks: Mapping[str, int]) -> None:
        self._hyperparams = at_clocks(self.card, self._hyperparams, clocks)
        self._apply_learning_rate()


def _counted(learn: Callable[[Any, EpisodeData], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """``learn``, after which the agent's clocks have moved on; a window that failed has not been."""

    @functools.wraps(learn)
    def counting(self: Learner, episode_data: EpisodeData) -> dict[str, Any]:
        if self._learning:  # called by the learn of a subclass, which counts
            return learn(self, episode_data)
        self._learning = True
        try:
            report = learn(self, episode_data)
        finally:
            self._learning = False
        before = self._hyperparams.clocks
        self._set_clocks(
            {
                "environment_steps": before["environment_steps"] + episode_data.length,
                "gradient_steps": before["gradient_steps"] + int(report.get("updates", 0)),
            }
        )
        return report

    counting.counts = True  # type: ignore[attr-defined] # a mark for subclasses
    return counting
