"""Holds every page of the repository against the code: ``python -m tests.architecture.docs_check``.

Checked are paths, tests, `optix-bus` commands with their options, `make` targets, names of the library,
Python blocks and topologies. A page that says what is not there is a defect like any other; each is one line,
``file:line: what``.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from optix_bus.cli import cli
from optix_bus.runtime.problems import Source
from optix_bus.runtime.topology import TopologyError, parse_topology

ROOT = Path(__file__).parents[2]
OURS = ("optix_bus", "nodes", "topologies", "tests")

_SKIPPED = {"runs", "build", "dist", "__pycache__"}
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_PATH = re.compile(r"[\w.*-]+(/[\w.*-]+)*/?")
_NAME = re.compile(rf"({'|'.join(OURS)})(\.[A-Za-z_]\w*)+")
_COMMAND = re.compile(r"(?<![\w/.'-])optix-bus(?= )")
_END_OF_COMMAND = {"|", "||", "&&", "&", ";", ">", ">>", "<", "#"}
_RULE = re.compile(r"^([A-Za-z][\w-]*):", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Mistake:
    """One thing that a page says and that is not so."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Code:
    """A block of code; ``line`` is that of its first line, ``language`` is empty for indented blocks."""

    line: int
    language: str
    lines: list[str]


def pages(root: Path) -> Iterator[Path]:
    """Every Markdown page that is ours."""
    for folder, below, files in os.walk(root):
        hidden = {name for name in below if name.startswith(".") and name != ".github"}
        below[:] = sorted(set(below) - _SKIPPED - hidden)
        yield from (Path(folder) / name for name in sorted(files) if name.endswith(".md"))


def check(page: Path, root: Path = ROOT) -> list[Mistake]:
    """The mistakes of one page."""
    text = page.read_text(encoding="utf-8")
    prose, blocks = split(text)
    found: list[tuple[int, str]] = []
    for number, line in prose:
        plain = _SPAN.sub(lambda match: " " * len(match[0]), line)
        found += [
            (number, text) for match in _LINK.finditer(plain) for text in _link(match[1], page.parent, root)
        ]
        for match in _SPAN.finditer(line):
            found += [(number, text) for text in _span(match[2].strip(), page.parent, root)]
    for block in blocks:
        found += _block(block, page, root)
    name = page.relative_to(root).as_posix()
    return sorted({Mistake(name, number, text) for number, text in found})


def split(text: str) -> tuple[list[tuple[int, str]], list[Code]]:
    """Numbered lines of prose, and the blocks of code: fenced ones and indented ones."""
    prose: list[tuple[int, str]] = []
    blocks: list[Code] = []
    fence = ""
    before = ""
    for number, line in enumerate(text.splitlines(), start=1):
        opened = re.match(r"\s*(```+|~~~+)\s*([\w+-]*)", line)
        if fence:
            if opened and opened[1].startswith(fence) and not opened[2]:
                fence = ""
            else:
                blocks[-1].lines.append(line)
        elif opened:
            fence = opened[1]
            blocks.append(Code(number + 1, opened[2] or "text", []))
        elif line.startswith("    ") and (not before.strip() or _continues(blocks, number)):
            if not _continues(blocks, number):
                blocks.append(Code(number, "", []))
            blocks[-1].lines.append(line[4:])
        else:
            prose.append((number, line))
        before = line
    return prose, blocks


def _continues(blocks: list[Code], number: int) -> bool:
    return bool(blocks) and not blocks[-1].language and blocks[-1].line + len(blocks[-1].lines) == number


def _link(target: str, folder: Path, root: Path) -> list[str]:
    path = target.partition("#")[0]
    if not path or re.match(r"[a-z][a-z0-9+.-]*:", path):
        return []
    place = root / path.lstrip("/") if path.startswith("/") else folder / path
    return [] if place.exists() else [f"the link leads to {target}, which does not exist"]


def _span(text: str, folder: Path, root: Path) -> list[str]:
    found = [message for _, message in _commands([text], root)]
    if _NAME.fullmatch(text) and not (root / text).exists():
        return [*found, *_name(text)]
    path, tested, name = text.partition("::")
    if tested and path.endswith(".py"):
        return [*found, *_test(path, name, root)]
    if _PATH.fullmatch(text) and _looks_like_a_path(text, folder, root) and not _exists(text, folder, root):
        found.append(f"there is no {text}")
    return found


def _test(path: str, name: str, root: Path) -> list[str]:
    """Complaints about a test that a page names, ``tests/ROOM/test_FILE.py::test_name``."""
    if not (root / path).is_file():
        return [f"there is no {path}"]
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return [f"there is no {part} in {path}" for part in name.split("::") if part not in defined]


def _looks_like_a_path(text: str, folder: Path, root: Path) -> bool:
    if any(part.partition(".")[0].isupper() and part not in ("README.md",) for part in text.split("/")[:-1]):
        return False  # a placeholder, as in RUN/journal
    first, *rest = text.split("/")
    if rest and rest != [""]:
        return any((base / first).is_dir() for base in _bases(folder, root))
    return text.endswith((".py", ".md"))


def _exists(text: str, folder: Path, root: Path) -> bool:
    if re.fullmatch(r"[A-Z_]+(\.\w+)?", text.split("/")[-1]) and not text.endswith(".md"):
        return _exists(text.rpartition("/")[0], folder, root)  # a name to fill in, as in nodes/NAME.py
    if "*" in text:
        return any(True for base in _bases(folder, root) for _ in base.glob(text))
    return any((base / text).exists() for base in _bases(folder, root))


def _bases(folder: Path, root: Path) -> tuple[Path, ...]:
    """A page may speak of paths from the root, from its own folder or from inside the library."""
    return root, folder, root / "optix_bus"


def _name(text: str) -> list[str]:
    """Complaints about a dotted name of the library."""
    parts = text.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return [f"there is no {text}"]
            found = getattr(found, part)
        return []
    return [f"there is no {text}"]


def _block(block: Code, page: Path, root: Path) -> list[tuple[int, str]]:
    if block.language in ("python", "py"):
        return _python(block)
    if block.language in ("yaml", "yml"):
        return _topology(block, page)
    return [(block.line + offset, message) for offset, message in _commands(block.lines, root)]


def _python(block: Code) -> list[tuple[int, str]]:
    source = textwrap.dedent("\n".join(block.lines))
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [(block.line + (error.lineno or 1) - 1, f"this is no Python: {error.msg}")]
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] in OURS:
                line = block.line + getattr(node, "lineno", 1) - 1
                found += [(line, message) for message in _name(name)]
    return found


def _topology(block: Code, page: Path) -> list[tuple[int, str]]:
    text = "\n".join(block.lines) + "\n"
    said = [line for line in block.lines if line.strip() and not line.lstrip().startswith("#")]
    if not said or not said[0].startswith("topology:"):
        return []
    try:
        parse_topology(Source(page.name, text), (), path=page, build_environment=False)
    except TopologyError as error:
        return [(block.line + (problem.line or 1) - 1, problem.message) for problem in error.problems]
    return []


def _commands(lines: list[str], root: Path) -> Iterator[tuple[int, str]]:
    """Complaints about command lines in code, with the offset of their line."""
    joined: list[tuple[int, str]] = []
    for offset, line in enumerate(lines):
        if joined and joined[-1][1].endswith("\\"):
            joined[-1] = (joined[-1][0], joined[-1][1][:-1] + " " + line.strip())
        else:
            joined.append((offset, line.rstrip()))
    targets = set(_RULE.findall((root / "Makefile").read_text(encoding="utf-8")))
    for offset, line in joined:
        for match in _COMMAND.finditer(line):
            yield from ((offset, message) for message in _optix_bus(_words(line[match.end() :])))
        words = _words(line.strip().removeprefix("$ "))
        if words[:1] == ["make"]:
            named = [word for word in words[1:] if re.fullmatch(r"[a-z][\w-]*", word)]
            yield from ((offset, f"there is no `make {word}`") for word in named if word not in targets)


def _words(text: str) -> list[str]:
    """The words of one command, up to a pipe, a redirection or a comment."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words = []
    try:
        for word in lexer:
            if word in _END_OF_COMMAND:
                break
            words.append(word)
    except ValueError:  # a quote in prose
        return text.split()
    return words


def _optix_bus(words: list[str]) -> list[str]:
    """Complaints about what stands behind `optix-bus`."""
    command: click.Command = cli
    path = "optix-bus"
    context = click.Context(cli)
    while isinstance(command, click.Group):
        if not words or words[0].isupper() or words[0].startswith(("-", "[")):
            break
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            return [f"there is no `{path} {name}`"]
        command, path = found, f"{path} {name}"
    return [] if command is cli and words[:1] == ["COMMAND"] else _options(command, path, words)


def _options(command: click.Command, path: str, words: list[str]) -> list[str]:
    options = {
        name: p
        for p in command.params
        if isinstance(p, click.Option)
        for name in (*p.opts, *p.secondary_opts)
    }
    room = sum(p.nargs if p.nargs > 0 else 10**6 for p in command.params if isinstance(p, click.Argument))
    found = []
    skip = False
    given = 0
    for word in words:
        if skip:
            skip = False
            continue
        name, is_long, _ = word.partition("=")
        if not word.startswith("-") or word == "-":
            given += 1
        elif name in ("--help", "-h"):
            continue
        elif name not in options:
            found.append(f"`{path}` has no option {name}")
        else:
            skip = not options[name].is_flag and not is_long
    if given > room and not isinstance(command, click.Group):
        found.append(f"`{path}` takes {room} argument{'s' if room != 1 else ''}, found {given}")
    return found


def main(root: Path = ROOT) -> int:
    """Check every page; returns the exit code."""
    sys.path.insert(0, str(root))
    checked = list(pages(root))
    mistakes = [mistake for page in checked for mistake in check(page, root)]
    for mistake in mistakes:
        print(mistake)
    print(f"{len(checked)} pages, {len(mistakes)} mistakes")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
