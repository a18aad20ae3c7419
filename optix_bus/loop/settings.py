"""Every knob of the loop, with its meaning and its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optix_bus.settings import check, setting


@dataclass(frozen=True)
class LoopSettings:
    """How the loop judges, cools down, rolls back and stops.

    An *evaluation* is one score of the loop's signal; a *window* is one round of collecting and learning,
    or, of the watchdog, of evaluating alone. With ``base_interval: 1`` there is one evaluation a window.
    """

    # When to evaluate
    base_interval: int = setting(1, "Windows from one evaluation to the next while tuning.", minimum=1)
    backoff_factor: float = setting(
        2.0,
        "Growth of the interval at each evaluation without improvement, once the convergence window is full.",
        minimum=1.0,
    )
    max_interval_episodes: int = setting(100, "The interval grows no further.", minimum=1, unit="windows")

    # What an improvement is
    improvement_margin: float = setting(
        0.0, "Smallest gain over the best that counts as an improvement.", minimum=0.0, unit="score"
    )
    noise_k: float = setting(
        2.0, "A gain counts above this many standard deviations of the scores' noise.", minimum=0.0
    )
    score_window: int = setting(
        20, "Latest scores from which the noise is taken, their trend removed.", minimum=4
    )
    score_smoothing: int = setting(2, "Latest scores whose mean is compared with the best.", minimum=1)

    # From ACTIVE to COOLING to DORMANT
    plateau_threshold: int = setting(
        5, "Evaluations without improvement until the loop cools down.", minimum=1
    )
    dormant_threshold: int | None = setting(
        None,
        "Evaluations without improvement before the convergence test is consulted; "
        "by default 20, and 15 for off-policy agents.",
        minimum=1,
    )
    min_episodes_before_dormant: int | None = setting(
        None, "Windows before training may be called done; by default what the agent asks for.", minimum=0
    )
    min_steps_before_dormant: int = setting(
        0, "Environment steps before training may be called done.", minimum=0, unit="steps"
    )
    score_floor: float | None = setting(
        None,
        "Training is not called done below this score; without it, not before the score has risen by "
        "three standard errors since the start.",
        unit="score",
    )

    # The convergence test
    convergence: Literal["equivalence", "classical"] = setting(
        "equivalence",
        "equivalence: a rise that matters is excluded; classical: none is proven.",
        choices=("equivalence", "classical"),
    )
    convergence_margin: float | None = setting(
        None,
        "The rise per convergence window that matters; by default taken from the spread of single episodes "
        "and the rise so far.",
        above=0.0,
        unit="score",
    )
    margin_episode_sd: float = setting(
        0.35, "Automatic margin: at least this many standard deviations of single-episode returns.", above=0.0
    )
    margin_score_share: float = setting(
        0.05, "Automatic margin: at least this share of the rise since the start.", above=0.0, below=1.0
    )
    convergence_window: int | None = setting(
        None,
        "Evaluations the test looks at; by default as many as the margin over the noise asks for.",
        minimum=5,
    )
    max_convergence_window: int = setting(
        200,
        "Longest automatic window; where it is too short for the automatic margin, the margin is widened to "
        "what it resolves, and the report says so.",
        minimum=20,
    )
    looks: int = setting(3, "Evaluations running at which the convergence test has to pass.", minimum=1)

    # Degradation
    degradation_threshold: float = setting(
        0.95,
        "A score below the best by more than (1 - this) of it is a degradation.",
        minimum=0.0,
        maximum=1.0,
    )
    min_degradation_drop: float = setting(
        0.0001, "A smaller drop is never a degradation.", minimum=0.0, unit="score"
    )
    min_episodes_before_degradation: int = setting(
        5, "Evaluations before a degradation can be called.", minimum=0
    )
    min_consecutive_degradations: int = setting(
        3, "Evaluations running that must have degraded (or, for the watchdog, changed).", minimum=1
    )
    rollback_on_degradation: bool = setting(
        False, "Restore the best snapshot on degradation; on-policy agents only."
    )

    # When to stop
    max_episodes: int | None = setting(None, "Stop after this many windows.", minimum=1, unit="windows")
    max_steps: int | None = setting(
        None, "Stop after the window that completes this many environment steps.", minimum=1, unit="steps"
    )
    target_score: float | None = setting(None, "Stop when the best policy scores this much.", unit="score")
    keep_watching: bool = setting(
        False,
        "Stay alive after convergence, in the state WATCHDOG: the best policy is restored and only "
        "evaluated. Where its scores change for good, the loop is ACTIVE again and trains on from it.",
    )
    watch_seconds: float = setting(
        60.0,
        "From one evaluation of the watchdog to the next; 0: back to back.",
        minimum=0.0,
        unit="seconds",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class SchedulerSettings(LoopSettings):
    """What the scheduler of a topology knows beyond the loop: how many windows are under way, and cuts.

    A cut is a point from which the run can go on: every node writes its state to disk.
    """

    lookahead: int = setting(
        0, "Windows collected ahead of learning: 0 is lock step, 1 overlaps the two.", minimum=0, maximum=1
    )
    cut_windows: int = setting(
        10,
        "Windows from one cut to the next; 0: the run cannot be taken up again.",
        minimum=0,
        unit="windows",
    )
    cut_bytes: int = setting(
        256 * 1024 * 1024,
        "A cut comes earlier when the windows and policies of one node since the last one exceed this.",
        minimum=1,
        unit="bytes",
    )
