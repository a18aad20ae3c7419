"""Population-based training with a population of one, whose other members are its own past."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.optimizers.archive import Archive
from optix_bus.optimizers.contrast import Array, Measured, Noise
from optix_bus.optimizers.probing import COMPARISON, ProbingOptimizer, require_positive

#: On a log scale wherever their bounds allow it, unless other names are given.
LOG_SCALE = frozenset({"learning_rate", "epsilon", "weight_decay"})

#: Standard errors above which a challenger is believed to be better.
_BELIEVED = 2.0

#: A perturbation is at least this share of its scale: none is too small to show.
_AT_LEAST = 0.5


class PBTOptimizer(ProbingOptimizer):
    """Exploits what has scored highest while it does badly, and explores around itself otherwise.

    After Jaderberg et al. 2017, "Population Based Training of Neural Networks", with the pairs of parameters
    and score of this run as the population. Where the parameters in force score below the 20th percentile of
    it, the challenger is one of the top 20 % with a small perturbation, otherwise the parameters in force
    with a larger one. Scores of different times are not comparable while a policy learns, so a challenger is
    tried beside the parameters in force, in an order in which drift cancels, and takes their place where it
    is better by two standard errors. The next exploration goes on in a direction that was right, and is
    turned round after one that was wrong.

    Args:
        param_bounds: (low, high) by hyperparameter; None takes the agent's own.
        history_size: pairs that are remembered, first in, first out.
        exploit_percentile: share of the history below which a score is bad.
        top_percentile: share of the history from which is copied.
        explore_scale: size of a perturbation, as a share of the range.
        exploit_scale: the same for what is copied.
        log_scale_params: names on a log scale, where a perturbation is a factor of
            ``exp(+-scale log(high / low))``; by default `LOG_SCALE`, where both bounds are positive.
        log_params: the same under the name that the other tuners have for it.
        warmup_episodes: evaluations before the first challenger.
        seed: of choices and perturbations.
        rng: takes the place of ``seed``.
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        history_size: int = 50,
        exploit_percentile: float = 0.2,
        top_percentile: float = 0.2,
        explore_scale: float = 0.2,
        exploit_scale: float = 0.05,
        log_scale_params: Iterable[str] | None = None,
        *,
        log_params: Iterable[str] | None = None,
        warmup_episodes: int = 0,
        seed: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        require_positive(history_size=history_size, explore_scale=explore_scale, exploit_scale=exploit_scale)
        for name, share in (
            ("exploit_percentile", exploit_percentile),
            ("top_percentile", top_percentile),
        ):
            if not 0.0 < share < 1.0:
                raise ConfigurationError(f"found {name}={share!r}, expected a share between 0 and 1")
        named = log_params if log_scale_params is None else log_scale_params
        if named is None:
            named = [
                name for name in LOG_SCALE & set(param_bounds or {}) if (param_bounds or {})[name][0] > 0
            ]
        super().__init__(param_bounds, named, warmup_episodes, seed, rng)
        self._bad, self._good = exploit_percentile, top_percentile
        self._explore, self._exploit = explore_scale, exploit_scale
        self.archive = self._archive = Archive(history_size)
        self._noise = Noise()
        self._challenger: list[float] = []
        self._direction: list[float] = []  # of the exploration, in units of its scale
        self._turned = False  # whether it is one that was turned round
        self._level: float | None = None  # what the parameters in force scored last

    def _design(self) -> Sequence[tuple[float, int]]:
        return COMPARISON

    def _probe_at(self, label: float) -> Array:
        assert self._centre is not None
        return np.array(self._challenger) if label > 0.0 else self._centre

    def _prepare(self) -> None:
        self._challenger = self._challenge().tolist()

    def _challenge(self) -> Array:
        """``[d]`` the parameters to try next."""
        assert self._centre is not None
        rng = np.random.default_rng([self._seed, self._round])
        sizes, signs = rng.uniform(_AT_LEAST, 1.0, (2, len(self._centre)))
        perturbation = sizes * np.where(signs < (1.0 + _AT_LEAST) / 2.0, -1.0, 1.0)
        if self._level is not None and len(self._archive) and self._level < self._archive.lowest(self._bad):
            chosen = self._archive.top(self._good)
            self._direction, self._turned = [], False
            challenger = chosen[rng.integers(len(chosen))] + self._exploit * perturbation
        else:
            self._direction = self._direction or perturbation.tolist()
            reach = np.maximum(self._explore, 2.0 * self._box.smallest_steps())
            challenger = self._centre + reach * np.array(self._direction)
        clipped: Array = challenger.clip(0.0, 1.0)
        return clipped

    def _conclude(self, found: Measured) -> None:
        seen = self._ways.difference(found)
        self._noise.remember(seen.variance, seen.freedom)
        needed = self._noise.needed(found.errors, seen.spread, _BELIEVED)
        won = seen.size > needed
        self._level = float(found.scores[found.labels > 0.0 if won else found.labels < 0.0].mean())
        if won:
            self._centre, self._turned = np.array(self._challenger), False
            return
        self._turned = seen.size < -needed and not self._turned
        self._direction = [-each for each in self._direction] if self._turned else []

    def _moved(self, dimensions: int) -> None:
        self._direction, self._challenger, self._level, self._turned = [], [], None, False

    def _memory(self) -> dict[str, Any]:
        return {
            "archive": self._archive.state(),
            "noise": self._noise.state(),
            "challenger": self._challenger,
            "direction": self._direction,
            "turned": self._turned,
            "level": self._level,
        }

    def _recall(self, state: dict[str, Any]) -> None:
        self._archive.load_state(state["archive"])
        self._noise = Noise.restored(state["noise"])
        self._challenger = [float(x) for x in state["challenger"]]
        self._direction = [float(x) for x in state["direction"]]
        self._turned = bool(state["turned"])
        self._level = None if state["level"] is None else float(state["level"])
