"""Playing fresh episodes with a policy that a run left on disk; nothing of the run needs to be running."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optix_bus.runtime.plan import RunPlan
from optix_bus.types import EvalMetrics

if TYPE_CHECKING:
    from optix_bus.types import NamedArrays, PolicySnapshot

#: Environments that play at the same time; part of what a seed means, so that it never changes by itself.
_ENVIRONMENTS = 20


@dataclass(frozen=True)
class Played:
    """What a policy has earned.

    Attributes:
        metrics: the score and what lies behind it.
        returns: one for each episode, by its number; the same seed plays the same episodes.
        deterministic: whether the likeliest actions were taken.
    """

    metrics: EvalMetrics
    returns: list[float]
    deterministic: bool


def play(
    run: Path,
    snapshot: PolicySnapshot,
    policy: NamedArrays,
    *,
    episodes: int,
    seed: int,
    stochastic: bool = False,
) -> Played:
    """Complete episodes in the environment of a run.

    Args:
        run: the run's folder; its plan says which environment.
        snapshot: which snapshot of it.
        policy: the snapshot's arrays, as `CheckpointRegistry.load` gives them.
        episodes: how many.
        seed: of the episodes; two policies with the same one play the same episodes.
        stochastic: sample actions also where the agent could act deterministically.

    Raises:
        ConfigurationError: the run has no plan, or its environment is not to be had here.
    """
    from optix_bus.evaluators import ReturnEvaluator
    from optix_bus.pipelines import PipelineSettings, make_pipeline

    plan = RunPlan.read(run / "plan.json")
    settings = PipelineSettings(environments=min(episodes, _ENVIRONMENTS))
    environment, kwargs = plan.environment["id"], plan.environment["kwargs"]
    pipeline = make_pipeline(environment, kwargs, settings, role="validation", seed=seed)
    actor, able = _actor(snapshot, policy, plan)
    deterministic = able and not stochastic
    pipeline.set_agent(actor)
    pipeline.setup()
    try:
        data = pipeline.evaluate(episodes, 0, deterministic=deterministic)
    finally:
        pipeline.teardown()
    returns = [float(value) for value in data.metadata["episode_returns"]]
    return Played(ReturnEvaluator().score_validation(data), returns, deterministic)


def _actor(snapshot: PolicySnapshot, policy: NamedArrays, plan: RunPlan) -> tuple[Any, bool]:
    """Who acts: the NumPy policy where the snapshot describes one, else the agent of the topology."""
    from optix_bus.agents import load_policy
    from optix_bus.runtime.site import PlanSite

    if "policy" in policy.metadata:
        return load_policy(policy), True
    agent = PlanSite(plan, plan.nodes[0], {}).agent()
    if "opaque" in policy.arrays:
        agent.load_weights(snapshot.weights_path)
    else:
        agent.load_state(policy)
    return agent, hasattr(agent, "act_batch") or hasattr(agent, "evaluation_mode")
