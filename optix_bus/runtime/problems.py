"""What is wrong with a text, where, and what to write instead.

A `Problem` is shown as compilers show theirs, so that editors and terminals can jump to it:

    topology.yaml:12:5: unknown option 'windw_steps' of node 'pipeline'; did you mean 'window_steps'?
        windw_steps: 256
        ^^^^^^^^^^^
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from optix_bus.errors import ConfigurationError

BOLD, RED, GREEN, RESET = "\x1b[1m", "\x1b[1;31m", "\x1b[32m", "\x1b[0m"


@dataclass(frozen=True)
class Source:
    """A text that a user wrote: a file, or one ``--set`` argument."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """Line ``number``, counted from 1; empty outside the text."""
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True)
class Place:
    """A span in a source; line and column are counted from 1, in characters."""

    source: Source
    line: int
    column: int
    width: int = 1


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        file: name of the source as the user gave it, ``--set`` for an override.
        line, column: counted from 1; 0 where the mistake has no place (a file that does not exist).
        message: what was found and what was expected, without a full stop.
        suggestion: what to write instead, or empty.
        path: where in the document, e.g. ``nodes.pipeline.window_steps``.
        source_line: the line it stands in.
        width: how many characters the caret underlines.
    """

    file: str
    line: int
    column: int
    message: str
    suggestion: str = ""
    path: str = ""
    source_line: str = ""
    width: int = 1

    @classmethod
    def at(cls, place: Place, message: str, suggestion: str = "", path: str = "") -> Problem:
        """A problem at a place, with the line it stands in."""
        line = place.source.line(place.line)
        return cls(place.source.name, place.line, place.column, message, suggestion, path, line, place.width)

    @property
    def headline(self) -> str:
        """``file:line:column: message; suggestion`` in one line."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}" + (f"; {self.suggestion}" if self.suggestion else "")

    def render(self, colour: bool = False) -> str:
        """The headline, the source line and a caret under it."""
        line = self.source_line.replace("\t", " ")
        room = max(len(line) - self.column + 1, 1)
        caret = " " * (self.column - 1) + "^" * min(max(self.width, 1), room)
        head = self.headline
        if colour:
            place = f"{self.file}:{self.line}:{self.column}:" if self.line else f"{self.file}:"
            head = f"{BOLD}{place}{RESET}{RED}{head[len(place) :]}{RESET}"
            caret = f"{GREEN}{caret}{RESET}"
        return f"{head}\n    {line}\n    {caret}" if line.strip() else head

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "suggestion": self.suggestion,
            "path": self.path,
        }


class TopologyError(ConfigurationError):
    """A topology cannot be used. Carries every problem that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.render() for problem in self.problems))


def did_you_mean(found: str, known: Iterable[str], listing: str = "") -> str:
    """``did you mean 'x'?`` for the closest known word; where none is close, ``LISTING: a, b, c``."""
    words = sorted(set(known))
    folded = {word.lower(): word for word in words}
    close = difflib.get_close_matches(found.lower(), list(folded), n=1, cutoff=0.6)
    if close:
        return f"did you mean '{folded[close[0]]}'?"
    return f"{listing}: {', '.join(words)}" if listing and words else ""
