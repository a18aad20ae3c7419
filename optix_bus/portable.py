"""An agent's state as named arrays, whatever the agent.

Agents with `state`/`load_state` give their arrays. For the others, what `save_weights` writes, a file or a
folder, is carried as bytes: one uint8 array named ``opaque``, whose metadata says which of the two it is.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from optix_bus.errors import CheckpointError
from optix_bus.interfaces import ArrayAgent
from optix_bus.types import NamedArrays

_ASKED = "weights"


def capture(agent: Any) -> NamedArrays:
    """The agent's state, to go into a blob or a snapshot."""
    if isinstance(agent, ArrayAgent):
        return agent.state()
    with tempfile.TemporaryDirectory(prefix="optix-bus-") as folder:
        agent.save_weights(str(Path(folder) / _ASKED))
        return read_opaque(Path(folder))


def restore(agent: Any, state: NamedArrays) -> None:
    """Give an agent a state that `capture` took from one of its kind."""
    if "opaque" not in state.arrays:
        agent.load_state(state)
        return
    with tempfile.TemporaryDirectory(prefix="optix-bus-") as folder:
        agent.load_weights(str(write_opaque(state, Path(folder))))


def read_opaque(folder: Path) -> NamedArrays:
    """Everything an agent wrote into this folder when asked for ``weights`` in it.

    A single file of that name is kept as its bytes; anything else (a folder, several files, a suffix of the
    agent's own) as a tar.
    """
    written = sorted(folder.iterdir())
    if not written:
        raise CheckpointError("save_weights wrote nothing at the path it was given")
    if [path.name for path in written] == [_ASKED] and written[0].is_file():
        content, form = written[0].read_bytes(), "file"
    else:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in sorted(folder.rglob("*")):
                # Times and owners would make the same weights look different in every run.
                archive.add(path, arcname=str(path.relative_to(folder)), recursive=False, filter=_anonymous)
        content, form = buffer.getvalue(), "tar"
    return NamedArrays({"opaque": np.frombuffer(content, np.uint8)}, {"form": form})


def write_opaque(state: NamedArrays, folder: Path) -> Path:
    """Lay out in an existing folder what `read_opaque` read; returns the path for ``load_weights``."""
    content = np.asarray(state.arrays["opaque"], np.uint8).tobytes()
    if state.metadata.get("form") == "file":
        (folder / _ASKED).write_bytes(content)
    else:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r") as archive:
            archive.extractall(folder, filter="data")
    return folder / _ASKED


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
    return member
