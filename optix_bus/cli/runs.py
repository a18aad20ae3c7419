"""Which run a command speaks of: a folder, or the newest one below ``runs``."""

from __future__ import annotations

from pathlib import Path

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.run_directory import RunDirectory


def find_run(run: str | None) -> RunDirectory:
    """The run of that folder or of that name below ``runs``; without a name the newest one.

    Raises:
        ConfigurationError: there is none; names the ones that are there.
    """
    if run is not None:
        for folder in (Path(run), Path("runs") / run):
            if (folder / "run.json").exists():
                return RunDirectory(folder)
        known = ", ".join(str(path) for path in known_runs()[:5])
        raise ConfigurationError(
            f"{run} is no run" + (f"; newest runs: {known}" if known else " (no run.json in it)")
        )
    newest = known_runs()
    if not newest:
        raise ConfigurationError(
            "there is no run below ./runs: name its folder, or start one with: optix-bus up"
        )
    return RunDirectory(newest[0])


def find_journal(run: str | None) -> tuple[Path, RunDirectory | None]:
    """The journal of a run, found as by `find_run`, or a folder of segments; and the run that it is in.

    Raises:
        ConfigurationError: there is no journal.
    """
    from optix_bus.bus.journal_files import segments

    if run is not None and segments(Path(run)):
        journal = Path(run) if Path(run).name not in ("", "..") else Path(run).resolve()
        owner = RunDirectory(journal.parent)
        return journal, owner if owner.record.exists() and owner.journal == journal else None
    folder = find_run(run)
    if not segments(folder.journal):
        raise ConfigurationError(f"{folder.root} has no journal: no segment is in {folder.journal}")
    return folder.journal, folder


def known_runs() -> list[Path]:
    """Folders of runs below ``runs``, newest first."""
    records = sorted(Path("runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [record.parent for record in records]
