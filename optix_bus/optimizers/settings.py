"""Settings of the optimizer node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optix_bus.errors import ConfigurationError
from optix_bus.settings import check, setting


@dataclass(frozen=True)
class TuningSettings:
    """Which hyperparameters are tuned inside the run, and how."""

    method: Literal["spsa", "none"] = setting(
        "spsa", "spsa: simultaneous perturbation; none: everything stays as it is.", choices=("spsa", "none")
    )
    param_bounds: dict[str, list[float]] = setting(
        description="[low, high] by hyperparameter; by default the agent's own.", factory=dict
    )
    log_params: list[str] = setting(
        description="Hyperparameters of param_bounds on a log scale; by default those of the agent.",
        factory=list,
    )
    perturbation_scale: float = setting(
        0.05, "Size of a probe, as a share of the range.", above=0.0, maximum=0.5
    )
    learning_rate: float = setting(
        0.1,
        "Size of the step that a typical difference makes, as a share of the range.",
        above=0.0,
        maximum=1.0,
    )
    min_perturbation: float = setting(0.0001, "A decaying probe gets no smaller.", minimum=0.0)
    gradient_clip: float = setting(
        1.0, "Largest difference that a step follows, in root mean squares.", above=0.0
    )
    warmup_episodes: int = setting(0, "Evaluations before the first probe.", minimum=0)
    gains: Literal["constant", "spall"] = setting(
        "constant", "constant, or spall: step and probe sizes decay.", choices=("constant", "spall")
    )

    def __post_init__(self) -> None:
        check(self)
        for name, bounds in self.param_bounds.items():
            if len(bounds) != 2:
                raise ConfigurationError(f"param_bounds of {name!r}: found {bounds!r}, expected [low, high]")
