"""Nodes and the domain reach no clock, no chance without a seed, no outside world, but where it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.impurities import impurities

ROOT = Path(__file__).parents[2]
ROOMS = (
    "nodes",
    "optix_bus/agents",
    "optix_bus/evaluators",
    "optix_bus/evolution",
    "optix_bus/loop",
    "optix_bus/messages",
    "optix_bus/optimizers",
    "optix_bus/pipelines",
    "optix_bus/rl",
    "optix_bus/stats",
)
GROUND = ("errors", "interfaces", "portable", "settings", "types", "versions", "windows")

_DISK = "agents write their weights where save_weights is told to: beside, then renamed"
_OWN_FORM = "save_weights of a user's agent knows files only; its bytes are taken up again at once"
_LIVE = "data that do not wait are the outside: a live pipeline turns them into windows, which are recorded"
_NO_GENERATOR = "for Python users who give no generator; nodes always give one"

#: (file, name) -> why it is allowed there.
ALLOWED = {
    ("optix_bus/agents/acting/bernoulli.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/acting/categorical.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/acting/deterministic.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/acting/ensemble.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/acting/epsilon_greedy.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/acting/multi_categorical.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/acting/gaussian.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/acting/noisy_greedy.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/acting/squashed_gaussian.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/jax/device.py", "os.environ"): (
        "the only way to give XLA one thread, and where users name a folder for compiled programs: neither "
        "changes what is computed"
    ),
    ("optix_bus/agents/jax/ppo.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/agents/storage.py", "beside.unlink"): _DISK,
    ("optix_bus/agents/storage.py", "beside.write_bytes"): _DISK,
    ("optix_bus/agents/storage.py", "os.getpid"): _DISK,
    ("optix_bus/agents/storage.py", "os.replace"): _DISK,
    ("optix_bus/agents/tensorflow/__init__.py", "os.environ"): (
        "the only way to tell TensorFlow, before it is imported, not to greet"
    ),
    ("optix_bus/pipelines/feed.py", "threading.Condition"): _LIVE,
    ("optix_bus/pipelines/feed.py", "threading.Thread"): _LIVE,
    ("optix_bus/pipelines/feed.py", "time.monotonic"): _LIVE,
    ("optix_bus/pipelines/live.py", "time.monotonic"): _LIVE,
    ("optix_bus/pipelines/stepping.py", "secrets.randbits"): (
        "a pipeline without a seed draws one and can say which; in a topology every pipeline has one"
    ),
    ("optix_bus/pipelines/vector_stepper.py", "multiprocessing.connection.wait"): (
        "environments that step in processes of their own are waited for, whoever is first"
    ),
    ("optix_bus/portable.py", "*.read_bytes"): _OWN_FORM,
    ("optix_bus/portable.py", "*.write_bytes"): _OWN_FORM,
    ("optix_bus/portable.py", "tempfile.TemporaryDirectory"): _OWN_FORM,
    ("optix_bus/rl/minibatches.py", "numpy.random.default_rng()"): _NO_GENERATOR,
    ("optix_bus/rl/ring.py", "tempfile.TemporaryFile"): (
        "room for a replay larger than memory: without a name, and gone with the process"
    ),
    ("optix_bus/types.py", "time.time"): "timestamps for people; nodes give the stamp of their event instead",
}


def files():
    """Every file that must be pure."""
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))
    yield from (ROOT / "optix_bus" / f"{name}.py" for name in GROUND)


def found():
    """(file, line, name) of everything banned in the tree."""
    return [
        (path.relative_to(ROOT).as_posix(), line, name)
        for path in files()
        for line, name in impurities(path.read_text(encoding="utf-8"))
    ]


def test_nodes_and_the_domain_are_pure():
    wrong = [f"{path}:{line}: {name}" for path, line, name in found() if (path, name) not in ALLOWED]
    assert not wrong, "everything that influences a node is an event or a blob; found " + "; ".join(wrong)


def test_nodes_have_no_exceptions():
    assert not [path for path, _ in ALLOWED if path.startswith("nodes/")]


def test_every_exception_is_still_needed():
    assert set(ALLOWED) <= {(path, name) for path, _, name in found()}


def test_every_file_of_the_house_is_looked_at():
    assert len(list(files())) > 80
    assert all(path.exists() for path in files())


@pytest.mark.parametrize(
    ("snippet", "names"),
    [
        ("import time\nx = time.time()", ["time.time"]),
        ("import time as t\nx = t.monotonic()", ["time.monotonic"]),
        ("from time import perf_counter", ["time.perf_counter"]),
        ("from time import perf_counter as p\np()", ["time.perf_counter", "time.perf_counter"]),
        ("from dataclasses import field\nimport time\nx = field(default_factory=time.time)", ["time.time"]),
        ("import time\nt = time", ["time"]),
        ("import datetime\nx = datetime.datetime.now()", ["datetime.datetime.now"]),
        ("from datetime import datetime as d\nx = d.now()", ["datetime.datetime.now"]),
        ("import random\nrandom.shuffle([])", ["random.shuffle"]),
        ("import numpy as np\nnp.random.seed(1)", ["numpy.random.seed"]),
        ("from numpy import random as r\nr.normal()", ["numpy.random.normal"]),
        ("from numpy.random import normal", ["numpy.random.normal"]),
        ("import numpy as np\nrng = np.random.default_rng()", ["numpy.random.default_rng()"]),
        ("import numpy as np\nrng = np.random.default_rng(seed=None)", ["numpy.random.default_rng()"]),
        ("import os\nos.urandom(8)", ["os.urandom"]),
        ("import os\nx = os.environ['HOME']", ["os.environ"]),
        ("import uuid\nuuid.uuid4()", ["uuid.uuid4"]),
        ("import secrets\nsecrets.token_hex()", ["secrets.token_hex"]),
        ("import socket\nsocket.socket()", ["socket.socket"]),
        ("import urllib.request\nurllib.request.urlopen('x')", ["urllib.request.urlopen"]),
        ("import subprocess\nsubprocess.run(['ls'])", ["subprocess.run"]),
        ("open('x')", ["open"]),
        ("print('x')", ["print"]),
        ("from pathlib import Path\nPath('x').read_text()", ["*.read_text"]),
        ("def f():\n    import time\n    return time.sleep(1)", ["time.sleep"]),
    ],
)
def test_what_is_banned_is_found_under_any_name(snippet, names):
    assert [name for _, name in impurities(snippet)] == names


@pytest.mark.parametrize(
    "snippet",
    [
        "import numpy as np\nrng = np.random.default_rng(3)",
        "import numpy as np\nrng = np.random.Generator(np.random.PCG64(3))",
        "import numpy as np\ndef f(rng: np.random.Generator): return rng.random()",
        "def f(ctx): return ctx.now, ctx.rng('draw').normal()",
        "def f(self): return self.book.open(3)",
        "def f(time): return time + 1",
        "from datetime import timedelta\nx = timedelta(seconds=3)",
        "from optix_bus.runtime.randomness import stream\nx = stream(1, 'node')",
        "import os.path\nx = os.path.join('a', 'b')",
    ],
)
def test_what_is_welcome_is_left_alone(snippet):
    assert impurities(snippet) == []


def test_the_line_is_named():
    assert impurities("import time\n\n\nx = 1 + time.time()\n") == [(4, "time.time")]
