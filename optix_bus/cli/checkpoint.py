"""``optix-bus checkpoint``: the policies that a run left on disk."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optix_bus.cli.command import command, say
from optix_bus.cli.runs import find_run
from optix_bus.errors import CheckpointError, ConfigurationError

if TYPE_CHECKING:
    from optix_bus.checkpoints import CheckpointRegistry
    from optix_bus.runtime.plan import RunPlan
    from optix_bus.runtime.run_directory import RunDirectory
    from optix_bus.types import NamedArrays, PolicySnapshot
_SNAPSHOT = click.option("--snapshot", help="Id of a snapshot [the best].")


@click.group(
    "checkpoint",
    epilog="\b\nExample:\n  optix-bus checkpoint list\n"
    "  optix-bus checkpoint evaluate runs/tonight --episodes 100 --seed 10000 --json",
)
def checkpoint() -> None:
    """List, show, evaluate and export the policies of a run."""


@command("list", example="optix-bus checkpoint list\noptix-bus checkpoint list runs/tonight --json")
@click.argument("run", required=False)
def list_(run: str | None) -> None:
    """List the snapshots of RUN (by default the newest), best first."""
    registry = _registry(run)
    for snapshot in registry.snapshots:
        with contextlib.suppress(CheckpointError):  # reading verifies; what is damaged is named below
            registry.load(snapshot)
    rows = [_row(snapshot) for snapshot in registry.snapshots]
    text = [f"{'SNAPSHOT':<22} {'SCORE':>10} {'± 95 %':>8} {'EPISODES':>8} {'POLICY':>7} {'WINDOW':>7}"]
    for row in rows:
        text.append(
            f"{row['snapshot']:<22} {_number(row['score']):>10} {_half(row['standard_error']):>8} "
            f"{row['episodes']:>8} "
            f"{row['policy_version']:>7} {row['window']:>7}"
        )
    text = text if rows else ["no snapshots"]
    text += [f"damaged: {damage}" for damage in registry.damaged]
    say({"snapshots": rows, "damaged": registry.damaged}, "\n".join(text))


@command(
    "show",
    example="optix-bus checkpoint show runs/tonight\noptix-bus checkpoint show --snapshot 00000012-v000012",
)
@click.argument("run", required=False)
@_SNAPSHOT
def show(run: str | None, snapshot: str | None) -> None:
    """Show everything that is known of one snapshot of RUN: score, hyperparameters, arrays, lineage."""
    registry = _registry(run)
    chosen, policy = _choose(registry, snapshot)
    arrays = {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in policy.arrays.items()}
    data = {
        **_row(chosen),
        "sha256": registry.sha256(chosen),
        "path": chosen.weights_path,
        "hyperparameters": chosen.hyperparams.params,
        "lineage": registry.lineage(chosen),
        "arrays": arrays,
        "parameters": sum(math.prod(entry["shape"]) for entry in arrays.values()),
    }
    lines = [f"{key:<16} {value}" for key, value in data.items() if key not in ("arrays", "hyperparameters")]
    lines += [f"  {key:<22} {value}" for key, value in chosen.hyperparams.params.items()]
    lines += [f"  {name:<40} {entry['dtype']:<8} {tuple(entry['shape'])}" for name, entry in arrays.items()]
    say(data, "\n".join(lines))


@command(
    "evaluate",
    example="""optix-bus checkpoint evaluate
               optix-bus checkpoint evaluate runs/tonight --episodes 100 --seed 10000 --json""",
)
@click.argument("run", required=False)
@_SNAPSHOT
@click.option(
    "--episodes", default=100, show_default=True, type=click.IntRange(1), help="Complete episodes to play."
)
@click.option("--seed", default=10000, show_default=True, help="Seed of the episodes; training used others.")
@click.option("--stochastic", is_flag=True, help="Sample actions instead of taking the likeliest.")
def evaluate(run: str | None, snapshot: str | None, episodes: int, seed: int, stochastic: bool) -> None:
    """Play fresh episodes with a policy of RUN and print what it earns.

    Acts deterministically where the agent can. The policy is read from disk; nothing of the run needs to be
    running.
    """
    from optix_bus.evaluators import ReturnEvaluator
    from optix_bus.pipelines import PipelineSettings, make_pipeline
    from optix_bus.runtime.plan import RunPlan

    chosen, policy = _choose(_registry(run), snapshot)
    plan = RunPlan.read(find_run(run).root / "plan.json")
    pipeline = make_pipeline(
        plan.environment["id"],
        plan.environment["kwargs"],
        PipelineSettings(environments=min(episodes, 20)),
        role="validation",
        seed=seed,
    )
    actor, deterministic = _actor(chosen, policy, plan)
    pipeline.set_agent(actor)
    pipeline.setup()
    try:
        data = pipeline.evaluate(episodes, 0, deterministic=deterministic and not stochastic)
    finally:
        pipeline.teardown()
    metrics = ReturnEvaluator().score_validation(data)
    returns = [float(value) for value in data.metadata["episode_returns"]]
    error = _finite(metrics.standard_error)
    result = {
        "snapshot": chosen.snapshot_id,
        "policy_version": chosen.policy_version,
        "episodes": len(returns),
        "seed": seed,
        "deterministic": deterministic and not stochastic,
        "mean": metrics.primary_score,
        "standard_error": error,
        "min": min(returns),
        "max": max(returns),
    }
    say(
        result,
        f"policy {chosen.policy_version} ({chosen.snapshot_id}): {metrics.primary_score:.2f} "
        f"± {_half(error)} over {len(returns)} episodes (seed {seed}), "
        f"min {min(returns):.2f}, max {max(returns):.2f}, standard error {_number(error, 3)}"
        + ("" if result["deterministic"] else "; stochastic"),
    )


@command(
    "export",
    example="""optix-bus checkpoint export runs/tonight best-policy
               optix-bus checkpoint export runs/tonight best.onnx --format onnx""",
)
@click.argument("run")
@click.argument("target", type=click.Path(path_type=Path))
@_SNAPSHOT
@click.option(
    "--format",
    "form",
    type=click.Choice(("weights", "onnx")),
    default="weights",
    show_default=True,
    help="A folder of weights, or the acting half alone as an ONNX file.",
)
def export(run: str, target: Path, snapshot: str | None, form: str) -> None:
    """Copy a policy of RUN to TARGET, which must be new: its weights and a JSON card of what they are.

    Library agents load it with ``agent.load_weights(TARGET + "/weights")``; the arrays are safetensors.
    An ONNX file takes observations and answers deterministic actions, both as the environment has them.
    """
    registry = _registry(run)
    chosen, policy = _choose(registry, snapshot)
    source = registry.directory / chosen.snapshot_id
    card = {**_row(chosen), "sha256": registry.sha256(chosen)}
    if form == "onnx":
        from optix_bus.agents.onnx_graph import export_onnx

        if target.exists():
            raise ConfigurationError(f"{target} exists already: name a new file")
        export_onnx(policy, str(target))
        say({"target": str(target), **card}, f"{chosen.snapshot_id} -> {target}")
        return
    try:
        shutil.copytree(source, target)
        (target / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    except FileExistsError:
        raise ConfigurationError(f"{target} exists already: name a new folder") from None
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error}") from error
    say({"target": str(target), **card}, f"{chosen.snapshot_id} -> {target}")


for _command in (list_, show, evaluate, export):
    checkpoint.add_command(_command)


def _registry(run: str | None) -> CheckpointRegistry:
    from optix_bus.checkpoints import CheckpointRegistry

    return CheckpointRegistry(_folder(find_run(run)), resume=True)


def _folder(run: RunDirectory) -> Path:
    """Where the checkpoint node of the run writes: its setting ``directory``, or the run directory."""
    from optix_bus.runtime.plan import RunPlan

    plan = run.root / "plan.json"
    return RunPlan.read(plan).checkpoint_directory(run.root) if plan.exists() else run.checkpoints


def _choose(registry: CheckpointRegistry, snapshot: str | None) -> tuple[PolicySnapshot, NamedArrays]:
    """The snapshot of that id, or the best one that is not damaged, with its policy."""
    if snapshot is None:
        restored = registry.restore_best()
        if restored is None:
            raise CheckpointError(f"{registry.directory} holds no snapshot")
        for damage in registry.damaged:
            click.echo(f"warning: passed over: {damage}", err=True)
        return restored
    found = {candidate.snapshot_id: candidate for candidate in registry.snapshots}
    if snapshot in found:
        return found[snapshot], registry.load(found[snapshot])
    damaged = f"; damaged: {'; '.join(registry.damaged)}" if registry.damaged else ""
    raise CheckpointError(f"no snapshot {snapshot}; there are {', '.join(found) or 'none'}{damaged}")


def _row(snapshot: PolicySnapshot) -> dict[str, Any]:
    return {
        "snapshot": snapshot.snapshot_id,
        "policy_version": snapshot.policy_version,
        "window": snapshot.episode_id,
        "score": _finite(snapshot.eval_metrics.primary_score),
        "standard_error": _finite(snapshot.eval_metrics.standard_error),
        "episodes": snapshot.eval_metrics.n,
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _number(value: float | None, digits: int = 2) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


def _half(standard_error: float | None) -> str:
    """Half the width of the 95 % interval."""
    return _number(None if standard_error is None else 1.96 * standard_error)


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
