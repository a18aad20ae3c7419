"""The nursery: a process that has imported what agents need, and forks the processes that hold one.

python -m optix_bus.runtime.nursery_process RUN REQUESTS REPLIES LIFELINE

The three last are descriptors. Requests and replies are lines of JSON; `nursery` has the other side. The
nursery only imports: it computes nothing, opens no socket and starts no thread, because what is forked from a
process with threads waits for ever for those that were not forked with it. Where an import has started one,
it says so and ends, and processes are started as new interpreters.

A child is forked twice, so that it belongs to the supervisor: it neither dies with the nursery nor needs it
to be waited for.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import select
import sys
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from optix_bus.errors import ConfigurationError, OptixError
from optix_bus.runtime import lifeline
from optix_bus.runtime.children import LIFELINE
from optix_bus.runtime.failures import write_failure
from optix_bus.runtime.names import NURSERY
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.run_directory import RunDirectory

_PR_SET_NAME = 15
#: The nursery died before it had said that the child is there.
_UNBORN = 72


class Request(msgspec.Struct, frozen=True):
    """Fork a process of the run."""

    process: str
    incarnation: int
    log: str


class Reply(msgspec.Struct, frozen=True):
    """What came of it. The first reply has no process: all is imported. ``pid`` is 0 where forking failed."""

    process: str = ""
    incarnation: int = 0
    pid: int = 0
    reason: str = ""


def preload(plan: RunPlan) -> None:
    """Import what the processes that hold the agent will import.

    Raises:
        ConfigurationError: something was started that cannot be forked.
    """
    for module in ("optix_bus.runtime.host", "optix_bus.agents", "optix_bus.pipelines"):
        importlib.import_module(module)
    for node in plan.nodes:
        if node.holds_agent:
            importlib.import_module(node.class_path.partition(":")[0])
    from optix_bus.agents.factory import preload as preload_framework

    if "class" in plan.agent:
        importlib.import_module(plan.agent["class"].partition(":")[0])
        if "torch" in sys.modules:
            preload_framework("torch")
    else:
        preload_framework(plan.agent["framework"])
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise ConfigurationError(
            f"importing the agent has started {threads - 1} threads; a process that is forked then would "
            "wait for them for ever. Start threads when the agent is made, not when its module is imported"
        )


def main(arguments: list[str]) -> int:
    """Import, say so, fork until nobody asks any more; returns the exit code (in a child: the child's)."""
    root, requests, replies, line = Path(arguments[0]), *map(int, arguments[1:])
    lifeline.die_with_parent()
    if _is_abandoned(requests):
        return 0
    gc.disable()  # everything is kept: looking for garbage takes a fifth of the time of all imports
    try:
        preload(RunPlan.read(root / "plan.json"))
    except Exception as error:
        write_failure(RunDirectory(root), NURSERY, [NURSERY], error)
        # What cannot be imported now cannot be imported later.
        return error.exit_code if isinstance(error, OptixError) else ConfigurationError.exit_code
    gc.freeze()  # a collection that touched it would copy it into every child
    gc.enable()
    with os.fdopen(requests, "rb", buffering=0) as incoming:
        _reply(replies, Reply())
        child = _serve(incoming, replies)
    if child is None:
        return 0
    os.close(replies)
    return _live(root, child, line)


def _is_abandoned(requests: int) -> bool:
    """Whether the supervisor died before the kernel was asked for a signal: nobody would send it any more."""
    poll = select.poll()
    poll.register(requests, 0)
    return bool(poll.poll(0))


def _serve(incoming: BinaryIO, replies: int) -> Request | None:
    """Fork for each request. Returns it in the child, and None in the nursery when nobody asks any more."""
    for text in incoming:
        request = msgspec.json.decode(text, type=Request)
        try:
            if _fork(request, replies):
                return request
        except OSError as error:
            reason = f"{error.strerror}"
            _reply(replies, Reply(request.process, request.incarnation, 0, reason))
    return None


def _fork(request: Request, replies: int) -> bool:
    """Fork twice and announce the grandchild; True in that one, once it is known and adopted."""
    born, birth = os.pipe()
    go, gate = os.pipe()
    try:
        middle = os.fork()
    except OSError:
        for descriptor in (born, birth, go, gate):
            os.close(descriptor)
        raise
    if middle == 0:
        os.close(born)
        os.close(gate)
        return _fork_again(birth, go)
    os.close(birth)
    os.close(go)
    with os.fdopen(born, "rb") as said:
        pid = int(said.read() or 0)
    os.waitpid(middle, 0)
    reason = "" if pid else "the system refused another process"
    _reply(replies, Reply(request.process, request.incarnation, pid, reason))
    if pid:
        os.write(gate, b"g")
    os.close(gate)
    return False


def _fork_again(birth: int, go: int) -> bool:
    """In the middle process, which ends here; goes on in its child."""
    try:
        pid = os.fork()
    except OSError:
        os._exit(1)
    if pid:
        os.write(birth, str(pid).encode())
        os._exit(0)
    os.close(birth)
    if os.read(go, 1) != b"g":
        os._exit(_UNBORN)
    os.close(go)
    return True


def _live(root: Path, request: Request, line: int) -> int:
    """The life of a child: the same as that of a new interpreter which runs the host."""
    os.setsid()
    with open(request.log, "ab") as log, open(os.devnull, "rb") as nothing:
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source.fileno(), target)
    os.environ[LIFELINE] = str(line)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"optix:{request.process}"[:15].encode(), 0, 0, 0)
    from optix_bus.runtime.host import main as host

    return host([str(root), request.process, str(request.incarnation)])


def _reply(descriptor: int, reply: Reply) -> None:
    os.write(descriptor, msgspec.json.encode(reply) + b"\n")


def run() -> NoReturn:
    """Entry of the process."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
