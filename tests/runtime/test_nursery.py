"""The nursery: what it forks is ours, computes, outlives it, and dies with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from optix_bus.runtime.adoption import Orphans, adopting
from optix_bus.runtime.children import AdoptedChild, SpawnedChild
from optix_bus.runtime.nursery import Birth, Nursery
from optix_bus.runtime.plan import NodePlan, RunPlan
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.topology_settings import RunSettings
from optix_bus.runtime.validation import as_options

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to an ancestor"),
]

#: `END` is what the node does when it is set up.
MODULE = """
import subprocess
import sys
import time
from optix_bus.messages import RunStarted
from optix_bus.runtime.node import Node, handles
IMPORTS


class Agent: pass


class Here(Node):
    def __init__(self, settings): pass

    def setup(self):
        print("here", flush=True)
        END

    @handles(RunStarted)
    def on_start(self, event, ctx): pass
"""
WAIT = "time.sleep(600)"


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def make_run(folder: Path, end: str, imports: str = "") -> RunDirectory:
    run = RunDirectory.create(folder / "run")
    (folder / "own_module.py").write_text(MODULE.replace("IMPORTS", imports).replace("END", end))
    RunPlan(
        run_id="r",
        name="n",
        seed=0,
        digest="",
        run_directory=str(run.root),
        sockets=str(folder),
        shared_memory=str(folder),
        environment={},
        agent={"class": "own_module:Agent", "arguments": {}},
        run=as_options(RunSettings()),
        nodes=[
            NodePlan(
                name="here",
                class_path="own_module:Here",
                settings={},
                role="",
                process="here",
                holds_agent=True,
            )
        ],
        shares_agent=False,
        has_validation=False,
        has_optimizer=False,
        lookahead=0,
        search_path=[str(folder)],
    ).write(run.root / "plan.json")
    return run


class Ward:
    """A nursery, and what it has forked."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.log = run.logs / "here.log"
        self._line = os.pipe()
        self.nursery = Nursery(run.root, run.logs / "nursery.log", self._line[0])
        self.children: list[AdoptedChild] = []

    def births(self) -> list[Birth]:
        """Wait for the next answers."""
        found: list[Birth] = []
        wait_for(lambda: found.extend(self.nursery.poll()) or found)
        return found

    def fork(self) -> AdoptedChild:
        self.nursery.ask("here", 1, self.log)
        (birth,) = self.births()
        assert (birth.process, birth.incarnation) == ("here", 1)
        assert birth.pid > 0, self.nursery.last_lines()
        self.children.append(AdoptedChild("here", birth.pid, self.log))
        return self.children[-1]

    def end(self) -> None:
        for child in (self.nursery, *self.children):
            child.kill()
            child.wait(20.0)
        for descriptor in self._line:
            os.close(descriptor)


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Callable[..., Ward]]:
    """Makes a ward over a node that does something when it is set up."""
    made: list[Ward] = []

    def making(end: str, imports: str = "") -> Ward:
        made.append(Ward(make_run(tmp_path, end, imports)))
        return made[-1]

    with adopting() as adopts:
        assert adopts
        yield making
        for each in made:
            each.end()


def test_what_is_forked_is_our_child_in_a_session_of_its_own(ward: Callable[..., Ward]) -> None:
    child = ward(WAIT).fork()
    wait_for(lambda: child.last_lines() == ["here"])
    process = psutil.Process(child.pid)
    assert process.ppid() == os.getpid()
    assert os.getsid(child.pid) == child.pid
    assert process.name() == "optix:here"
    assert child.exit_code is None
    child.kill()
    assert child.wait(20.0) == -signal.SIGKILL
    assert child.exit_code == -signal.SIGKILL


def test_an_exit_code_is_known_and_the_log_is_gone_on_with(ward: Callable[..., Ward]) -> None:
    made = ward("sys.exit(7)")
    assert made.fork().wait(20.0) == 7
    assert made.fork().wait(20.0) == 7
    assert made.log.read_text() == "here\nhere\n"


def test_terminating_what_was_forked_is_an_orderly_end(ward: Callable[..., Ward]) -> None:
    # Without a hub it waits; the signal is noted and heeded as soon as it does not.
    child = ward("import os, signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); " + WAIT).fork()
    wait_for(lambda: child.last_lines() == ["here"])
    child.terminate()
    assert child.wait(20.0) == 5


def test_a_forked_process_computes(ward: Callable[..., Ward]) -> None:
    pytest.importorskip("torch")
    compute = (
        "a = torch.arange(300.0 * 300.0).reshape(300, 300) / 1e4; print(float((a @ a).sum()), flush=True); "
        "w = torch.nn.Linear(300, 300); torch.optim.Adam(w.parameters()).zero_grad(); "
        "w(a).sum().backward(); print('learnt', torch.get_num_threads(), flush=True); sys.exit(0)"
    )
    made = ward(compute, "import torch")
    for _ in range(2):
        child = made.fork()
        assert child.wait(30.0) == 0, child.last_lines(20)
        assert child.last_lines(1) == ["learnt 1"]


def test_the_nursery_has_one_thread_and_has_imported_what_takes_long(ward: Callable[..., Ward]) -> None:
    pytest.importorskip("torch")
    there = "print('torch._dynamo' in sys.modules and 'optix_bus.runtime.host' in sys.modules); sys.exit(0)"
    made = ward(there, "import torch")
    child = made.fork()
    assert child.wait(30.0) == 0
    assert child.last_lines(1) == ["True"]
    assert psutil.Process(made.nursery.pid).num_threads() == 1


def test_a_nursery_in_which_an_import_has_started_a_thread_says_so_and_forks_nothing(
    ward: Callable[..., Ward],
) -> None:
    made = ward(
        WAIT, "import threading; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    )
    made.nursery.ask("here", 1, made.log)
    assert made.births() == [Birth("here", 1, 0)]
    assert made.nursery.wait(20.0) == 2
    assert "importing the agent has started 1 threads" in made.run.failure("nursery")["message"]


def test_a_module_that_cannot_be_imported_is_the_nurserys_end(ward: Callable[..., Ward]) -> None:
    made = ward(WAIT, "raise ValueError('not today')")
    made.nursery.ask("here", 1, made.log)
    assert made.births() == [Birth("here", 1, 0)]
    assert made.nursery.wait(20.0) == 2
    assert made.run.failure("nursery")["message"] == "ValueError: not today"


def test_children_outlive_their_nursery(ward: Callable[..., Ward]) -> None:
    made = ward(WAIT)
    child = made.fork()
    wait_for(lambda: child.last_lines() == ["here"])
    made.nursery.kill()
    assert made.nursery.wait(20.0) == -signal.SIGKILL
    assert child.wait(0.5) is None
    assert psutil.Process(child.pid).ppid() == os.getpid()


def test_a_nursery_that_is_killed_leaves_nobody_waiting(ward: Callable[..., Ward]) -> None:
    made = ward(WAIT)
    wait_for(lambda: made.nursery.poll() == [] and made.nursery.is_ready)
    os.kill(made.nursery.pid, signal.SIGSTOP)
    made.nursery.ask("here", 1, made.log)
    made.nursery.kill()
    assert made.births() == [Birth("here", 1, 0)]


@pytest.mark.gpu
def test_a_forked_process_computes_on_an_accelerator(ward: Callable[..., Ward]) -> None:
    compute = "a = torch.ones(300, 300, device='cuda'); print(float((a @ a).sum()), flush=True); sys.exit(0)"
    made = ward(compute, "import torch")
    for _ in range(2):
        child = made.fork()
        assert child.wait(60.0) == 0, child.last_lines(20)
        assert child.last_lines(1) == ["27000000.0"]


def test_a_nursery_whose_supervisor_is_gone_before_it_looks_imports_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path, WAIT, "print('imported', flush=True)")
    requests, writer = os.pipe()
    os.close(writer)
    arguments = ["-m", "optix_bus.runtime.nursery_process", str(run.root), str(requests), "1", "0"]
    log = tmp_path / "nursery.log"
    nursery = SpawnedChild("nursery", arguments, log, pass_fds=(requests,))
    os.close(requests)
    assert nursery.wait(20.0) == 0
    assert log.read_text() == ""


def test_a_killed_supervisor_takes_nursery_and_children_with_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, WAIT)
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from optix_bus.runtime.adoption import adopting
        from optix_bus.runtime.run_directory import RunDirectory
        from tests.runtime.test_nursery import Ward
        with adopting():
            ward = Ward(RunDirectory(Path({str(run.root)!r})))
            pids = [ward.fork().pid, ward.fork().pid, ward.nursery.pid]
            print(*pids, flush=True)
            time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        parent.send_signal(signal.SIGKILL)
        parent.wait(20.0)
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), 3.0)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_what_a_dead_process_leaves_in_its_session_is_ended_and_waited_for(ward: Callable[..., Ward]) -> None:
    made = ward("print(subprocess.Popen(['sleep', '600']).pid, flush=True); " + WAIT)
    child = made.fork()
    wait_for(lambda: len(child.last_lines()) == 2)
    helper = int(child.last_lines()[1])
    child.kill()
    assert child.wait(20.0) == -signal.SIGKILL
    assert psutil.pid_exists(helper)
    orphans = Orphans()
    orphans.end({child.pid})
    wait_for(lambda: orphans.reap() is None and not psutil.pid_exists(helper))
