"""Settings of the optimizer node."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Literal

from optix_bus.errors import ConfigurationError
from optix_bus.settings import check, setting

#: Short names, as topologies and `RLOptimizer` take them.
METHODS = ("adaptive", "backoff", "momentum", "none", "pbt", "spsa")

#: Which of the methods look at an option; those that are not here are looked at by all.
_ONLY = {
    "learning_rate": ("spsa", "momentum", "adaptive"),
    "min_perturbation": ("spsa",),
    "gradient_clip": ("spsa",),
    "gains": ("spsa",),
    "history_size": ("pbt", "adaptive"),
    "autocorr_threshold": ("adaptive",),
    "gap_threshold": ("adaptive",),
    "switch_confirmation": ("adaptive",),
}


@dataclass(frozen=True)
class TuningSettings:
    """Which hyperparameters are tuned inside the run, and how."""

    method: Literal["adaptive", "backoff", "momentum", "none", "pbt", "spsa"] = setting(
        "spsa",
        "spsa: all at once; momentum: each one's gradient; backoff: one by one, by the sign; pbt: copies "
        "what scored highest; adaptive: chooses among those by the scores' noise; none: nothing changes.",
        choices=METHODS,
    )
    param_bounds: dict[str, list[float]] = setting(
        description="[low, high] by hyperparameter; by default the agent's own.", factory=dict
    )
    log_params: list[str] = setting(
        description="Hyperparameters of param_bounds on a log scale; by default those of the agent.",
        factory=list,
    )
    perturbation_scale: float | None = setting(
        None,
        "Size of a probe, as a share of the range; by default 0.1, 0.05 for backoff, 0.2 for pbt, and within "
        "adaptive 0.45 at first, which fades.",
        above=0.0,
        maximum=0.5,
    )
    learning_rate: float | None = setting(
        None,
        "Size of the step that a typical difference makes, as a share of the range; by default 0.1, and "
        "within adaptive 0.6 at first, which fades. Of spsa, momentum and adaptive.",
        above=0.0,
        maximum=1.0,
    )
    min_perturbation: float = setting(0.0001, "A decaying probe gets no smaller; of spsa.", minimum=0.0)
    gradient_clip: float = setting(
        1.0, "Largest difference that a step follows, in root mean squares; of spsa.", above=0.0
    )
    warmup_episodes: int = setting(0, "Evaluations before the first probe.", minimum=0)
    gains: Literal["constant", "spall"] = setting(
        "constant", "constant, or spall: step and probe sizes decay; of spsa.", choices=("constant", "spall")
    )
    history_size: int = setting(
        50, "Pairs of parameters and score to copy from; of pbt and adaptive.", minimum=5
    )
    autocorr_threshold: float = setting(
        0.3, "Scores are correlated from this lag-1 autocorrelation on; of adaptive.", above=0.0, below=1.0
    )
    gap_threshold: float = setting(
        0.2, "Scores this far below the best, as a share of it, call for pbt; of adaptive.", minimum=0.0
    )
    switch_confirmation: int = setting(
        3, "Readings running that must ask for the same change; of adaptive.", minimum=1
    )

    def __post_init__(self) -> None:
        check(self)
        for name, bounds in self.param_bounds.items():
            if len(bounds) != 2:
                raise ConfigurationError(f"param_bounds of {name!r}: found {bounds!r}, expected [low, high]")
        for field in fields(self):
            methods = _ONLY.get(field.name, METHODS)
            default = field.default
            if self.method in (*methods, "none") or default is MISSING:
                continue
            if getattr(self, field.name) != default:
                raise ConfigurationError(
                    f"{field.name!r} has no effect with method {self.method!r}, only with "
                    f"{' and '.join(methods)}; remove it"
                )
