"""Files stay small enough to read, nothing is left for later, and nothing is pickled."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 400
#: File -> (its own limit, why one file is still one idea).
LONGER = {
    "optix_bus/bus/link.py": (
        600,
        "the whole life of a connection: what is sent, missed, fetched and refused decides together",
    ),
}
LATER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
TEXTS = (".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".cfg", "Makefile")


def library():
    return sorted([*(ROOT / "optix_bus").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")])


def texts():
    """Every text that we wrote; what is installed, built or produced is not ours."""
    theirs = {"runs", "build", "dist", "__pycache__"}
    for folder, below, files in os.walk(ROOT):
        below[:] = [each for each in below if each not in theirs and not each.startswith(".")]
        yield from (Path(folder) / file for file in sorted(files) if file.endswith(TEXTS))


def name(path):
    return path.relative_to(ROOT).as_posix()


def length(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_of_the_library_is_longer_than_a_person_reads():
    long = {name(path): length(path) for path in library()}
    wrong = [f"{path} has {n} lines" for path, n in long.items() if n > LONGER.get(path, (LIMIT,))[0]]
    assert not wrong, f"a file over {LIMIT} lines has probably learnt a second trade: {'; '.join(wrong)}"


def test_every_longer_file_still_needs_its_limit():
    assert [path for path in LONGER if length(ROOT / path) <= LIMIT] == []


def test_most_files_are_short():
    lengths = sorted(length(path) for path in library())
    assert lengths[len(lengths) // 2] <= 220


def test_nothing_is_left_for_later():
    found = [
        f"{name(path)}:{number}"
        for path in texts()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if LATER.search(line)
    ]
    assert found == []


def test_nothing_is_pickled():
    """Also where the layer check does not look: an import inside a function or by name."""
    banned = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    found = []
    for path in library():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                named = [node.module or ""]
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                imports = isinstance(node.func, ast.Attribute) and node.func.attr == "import_module"
                named = [str(node.args[0].value)] if imports else []
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                named = [] if isinstance(node.value, ast.Constant) and not node.value.value else ["pickle"]
            found += [f"{name(path)}: {n}" for n in named if n.split(".")[0] in banned]
    assert found == []


def test_rooms_are_not_called_after_nothing():
    nothing = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [name(path) for path in library() if not nothing.isdisjoint({path.stem, path.parent.name})] == []
