"""What must not appear in nodes and the domain: clocks, chance without a seed, and the outside world.

A node is replayed from its events, so everything else that could influence it has to come in as one. Names
are resolved through the imports of the file, so an alias hides nothing; a mention counts, not only a call.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

#: Modules of which nothing may be used.
MODULES = frozenset(
    {
        *("asyncio", "http", "multiprocessing", "requests", "socket", "socketserver", "ssl", "urllib"),
        *("random", "secrets", "uuid"),
        *("select", "signal", "subprocess", "threading", "time"),
        *("getpass", "shutil", "tempfile"),
    }
)
#: Single names of modules that are otherwise welcome.
NAMES = frozenset(
    {
        "datetime.date.today",
        "datetime.datetime.now",
        "datetime.datetime.today",
        "datetime.datetime.utcnow",
        "os.environ",
        "os.getenv",
        "os.getpid",
        "os.open",
        "os.replace",
        "os.urandom",
        "sys.stdin",
        "sys.stdout",
    }
)
#: What makes a generator of one's own; everything else in ``numpy.random`` draws from a global one.
GENERATORS = frozenset(
    {
        *("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"),
        *("BitGenerator", "Generator", "SeedSequence", "default_rng"),
    }
)
BUILTINS = frozenset({"input", "open", "print"})
METHODS = frozenset({"read_bytes", "read_text", "unlink", "write_bytes", "write_text"})


def impurities(source: str) -> list[tuple[int, str]]:
    """(line, dotted name) of everything in a file that is banned, in order, each once a line."""
    tree = ast.parse(source)
    imported = _imported(tree)
    found = set()
    for node in ast.walk(tree):
        for name in _names(node, imported):
            if _banned(name):
                found.add((getattr(node, "lineno", 0), name.replace("?", "")))
    # `time.time` mentions `time` as well; once is enough.
    longer = {(line, name.rpartition(".")[0]) for line, name in found}
    return sorted(found - longer)


def _banned(name: str) -> bool:
    if name in NAMES or name.split(".")[0] in MODULES:
        return True
    if name.startswith("numpy.random."):
        return name.split(".")[2] not in GENERATORS
    return name in BUILTINS or name.rpartition(".")[2] in METHODS or name == "numpy.random.default_rng()"


def _names(node: ast.AST, imported: dict[str, str]) -> Iterator[str]:
    """Dotted names, without aliases, of what a node of the tree mentions itself."""
    if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        for alias in node.names:
            yield f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Attribute):
        dotted = _dotted(node)
        if dotted is None:
            yield f"?*.{node.attr}"
        else:
            first, *rest = dotted.split(".")
            yield ".".join([imported.get(first, f"?{first}"), *rest])
    elif isinstance(node, ast.Name) and node.id in imported:
        yield imported[node.id]
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in BUILTINS and node.func.id not in imported:
            yield node.func.id
        if _unseeded(node):
            for name in _names(node.func, imported):
                if name == "numpy.random.default_rng":
                    yield "numpy.random.default_rng()"


def _unseeded(call: ast.Call) -> bool:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return all(isinstance(value, ast.Constant) and value.value is None for value in given)


def _dotted(node: ast.expr) -> str | None:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def _imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name of a file stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found
