"""Settings of the policy manager node."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.errors import ConfigurationError
from optix_bus.settings import check, setting


@dataclass(frozen=True)
class EvolutionSettings:
    """What happens at a plateau: how many variants, how far from their parent, how many are kept."""

    variants: str = setting(
        "continue",
        "How a variant is trained. continue: the learner goes on from it. nodes: by a learner and pipelines "
        "of its own, in a process of their own, beside the others and in step with them.",
        choices=("continue", "nodes"),
    )
    max_spawns: int | None = setting(3, "Variants that may be made; null: no limit.", minimum=0)
    max_ensemble_size: int | None = setting(
        None, "Variants that are kept in the ensemble; null: all of them.", minimum=1
    )
    score_window: int = setting(
        10, "Latest validation scores of a variant whose mean gives its weight.", minimum=1
    )
    min_noise: float = setting(
        0.001, "Noise of a variant while everything improves, as a share of a parameter's range.", minimum=0.0
    )
    max_noise: float = setting(
        0.1,
        "Noise of a variant of something that stands still, as a share of a parameter's range.",
        above=0.0,
    )
    noise_window: int = setting(10, "Latest evaluations from which the noise is taken.", minimum=2)
    weight_noise: float = setting(
        0.0,
        "Noise of the weights as a multiple of that of the hyperparameters; 0 leaves them as they are.",
        minimum=0.0,
    )
    meta: bool = setting(
        False,
        "Decide by generalisation gap and improvement of validation (spawn, prune, stop or nothing); without "
        "it, spawn at every plateau while the budget lasts.",
    )
    gap_threshold: float = setting(
        0.2, "meta: a larger mean generalisation gap, as a share of the score, prunes.", above=0.0
    )
    gap_slope_threshold: float = setting(
        0.02, "meta: a gap that grows faster than this an evaluation prunes.", above=0.0
    )
    improvement_threshold: float = setting(
        0.01, "meta: a smaller gain of validation over the window, as a share of the score, spawns."
    )
    meta_window: int = setting(10, "meta: latest evaluations that count.", minimum=2)
    volatility_threshold: float = setting(
        0.2, "Largest detrended coefficient of variation of a calm regime.", above=0.0
    )
    trend_threshold: float = setting(
        0.05, "Smallest slope an evaluation, as a share of the mean, of a trend.", above=0.0
    )
    regime_window: int = setting(10, "Latest evaluations from which the regime is taken.", minimum=3)

    def __post_init__(self) -> None:
        check(self)
        if self.variants == "nodes" and self.max_ensemble_size == 1:
            raise ConfigurationError(
                "with variants: nodes the learner of the topology is one of the ensemble: found "
                "max_ensemble_size: 1, expected 2 at least"
            )
        if self.min_noise > self.max_noise:
            raise ConfigurationError(
                f"found min_noise: {self.min_noise:g} above max_noise: {self.max_noise:g}"
            )
