"""A pipeline goes on where another stood; what could not be taken up again is said to people."""

from __future__ import annotations

from typing import Any

from optix_bus.errors import ConfigurationError, EnvironmentFailure


def take_up(pipeline: Any, progress: dict[str, Any] | None) -> list[str]:
    """Let a pipeline go on from the ``progress()`` of one of its kind, None where that had no such method.

    Episodes that cannot be rebuilt are cut as truncated. Also where nothing can be rebuilt, because the
    environment raises or the topology now says something else, the pipeline goes on, with new episodes and
    the same count of them.

    Returns:
        One line for each episode that was lost, and one for the reason where there is one.
    """
    if progress is None or not hasattr(pipeline, "rebuild"):
        return [
            f"{type(pipeline).__name__} has no progress() and rebuild(): its open episodes are cut as "
            "truncated, and it begins anew"
        ]
    try:
        return _lost(progress, pipeline.rebuild(progress))
    except (ConfigurationError, EnvironmentFailure) as error:
        if not hasattr(pipeline, "begin_anew"):
            raise
        return [str(error), *_lost(progress, pipeline.begin_anew(progress))]


def _lost(progress: dict[str, Any], numbers: list[int]) -> list[str]:
    """A line for each episode that is given up, saying where it was."""
    rows = {number: row for row, number in enumerate(progress.get("episodes", ()))}
    lines = []
    for number in numbers:
        of, after = "", ""
        if number in rows:
            row = rows[number]
            of, after = f" of environment {row}", f" after {progress['steps'][row]} steps"
        lines.append(f"episode {number}{of} could not be rebuilt: cut as truncated{after}")
    return lines
