"""``optix-bus tune``: find better settings of a topology in short trials."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optix_bus.cli.command import command, say

if TYPE_CHECKING:
    from optix_bus.trials.tune_plan import TunePlan


@command(
    "tune",
    example="""optix-bus tune topology.yaml --trials 20 --workers 2
               optix-bus tune topology.yaml --steps 20000 --space space.yaml --run-dir runs/search
               optix-bus tune --resume runs/search --trials 40
               optix-bus up runs/search/best.yaml""",
)
@click.argument("path", default="topology.yaml")
@click.option("--trials", type=click.IntRange(min=1), help="How many in all [20, or what the file says].")
@click.option("--workers", type=click.IntRange(min=1), help="How many at the same time [1].")
@click.option("--steps", type=click.IntRange(min=1), help="Environment steps of one trial [50000].")
@click.option(
    "--space",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file with what is searched, in place of the topology's own `tune: space:`.",
)
@click.option("--storage", help="Where the study lies: a path, or a URL of a database [the run's folder].")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Change one value; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the search and of its trials.")
@click.option("--no-prune", is_flag=True, help="Let every trial use all its steps.")
@click.option("--resume", is_flag=True, help="PATH is the folder of a search: go on with it.")
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Folder of the search [runs/NAME-tune-DATE]."
)
@click.option("--quiet", "-q", is_flag=True, help="Print the result only.")
@click.pass_context
def tune(
    ctx: click.Context,
    path: str,
    trials: int | None,
    workers: int | None,
    steps: int | None,
    space: Path | None,
    storage: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    no_prune: bool,
    resume: bool,
    run_dir: Path | None,
    quiet: bool,
) -> None:
    """Try settings of the topology PATH in short trials, and write the best ones into a copy of it.

    Without a section `tune: space:` in the topology the bounds of its algorithm are searched. Trials are
    chosen by what the others have scored; those below their median are ended early. The result is
    RUN/best.yaml, for `optix-bus up`.

    Ctrl-C keeps what is done; --resume goes on, also after a power cut. Exit code 0 when all trials have been
    run, 130 after an interrupt, 3 when no trial came to a score.
    """
    from optix_bus.errors import ConfigurationError

    if sys.platform == "win32":
        raise ConfigurationError(
            "the workers of a search are processes, on Linux and macOS; elsewhere use TrialOrchestrator"
        )
    as_json = bool(ctx.meta.get("optix_bus.json"))
    if resume:
        fixed = {
            "--steps": steps,
            "--space": space,
            "--storage": storage,
            "--set": overrides or None,
            "--seed": seed,
            "--no-prune": no_prune or None,
            "--run-dir": run_dir,
        }
        if given := [name for name, value in fixed.items() if value is not None]:
            raise click.UsageError(
                f"{', '.join(given)} cannot change a search that is under way; --trials and --workers can"
            )
        run, plan = Path(path), _go_on(Path(path), trials, workers)
    else:
        changes = {"trials": trials, "workers": workers, "steps": steps, "space": _read_space(space)}
        if seed is not None:
            overrides = (*overrides, f"seed={seed}")
        run, plan = _begin(
            path, overrides, run_dir, storage, {**changes, "prune": False if no_prune else None}
        )
    _see_through(ctx, run, plan, quiet=quiet, as_json=as_json)


def _begin(
    path: str, overrides: tuple[str, ...], run_dir: Path | None, storage: str | None, given: dict[str, Any]
) -> tuple[Path, TunePlan]:
    from optix_bus.errors import ConfigurationError
    from optix_bus.runtime.run_directory import default_run_directory
    from optix_bus.runtime.topology import load_topology
    from optix_bus.trials.storage import import_optuna
    from optix_bus.trials.tune_plan import TunePlan

    import_optuna()
    topology = load_topology(path, overrides)
    run = run_dir if run_dir is not None else default_run_directory(f"{topology.name}-tune")
    if (run / "tune.json").exists() or (run / "run.json").exists():
        raise ConfigurationError(
            f"{run} already holds a search or a run: go on with a search by --resume, or choose another "
            "--run-dir"
        )
    plan = TunePlan.of(topology, storage=storage, **given)
    try:
        (run / "trials").mkdir(parents=True, exist_ok=True)
        (run / "topology.yaml").write_text(topology.rewrite(), encoding="utf-8")
        plan.write(run)
    except OSError as error:
        raise ConfigurationError(f"cannot write into {run}: {error.strerror}") from error
    return run, plan


def _go_on(run: Path, trials: int | None, workers: int | None) -> TunePlan:
    from optix_bus.trials.tune_plan import TunePlan

    plan = TunePlan.read(run)
    plan.trials = plan.trials if trials is None else trials
    plan.workers = plan.workers if workers is None else workers
    plan.write(run)
    return plan


def _read_space(file: Path | None) -> dict[str, Any] | None:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from optix_bus.errors import ConfigurationError

    if file is None:
        return None
    try:
        found = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"{file} holds no search space, expected lines such as learning_rate: [log_float, 1e-4, 3e-3]"
        )
    return found


def _see_through(ctx: click.Context, run: Path, plan: TunePlan, *, quiet: bool, as_json: bool) -> None:
    from optix_bus.cli.tune_views import choose_tune_view, table_lines
    from optix_bus.trials.crew import TuneCrew, search_facts

    crew = TuneCrew(run, plan, view := choose_tune_view(run, quiet=quiet or as_json))
    interrupted = False
    try:
        best = crew.see_through()
    except KeyboardInterrupt:
        interrupted, best = True, crew.keep()
    finally:
        view.close()
    rows = crew.rows()
    lines = table_lines(rows, plan)
    if best is not None:
        lines += [f"best: trial {best.number} with {best.score:.2f}", f"  optix-bus up {run / 'best.yaml'}"]
    if interrupted:
        lines.append(f"interrupted; to go on: optix-bus tune --resume {run}")
    say({"interrupted": interrupted, **search_facts(run, plan, rows, best)}, "\n".join(lines))
    if interrupted:
        ctx.exit(130)
