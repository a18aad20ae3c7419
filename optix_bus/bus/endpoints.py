"""Where a hub listens: five sockets in one private directory."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from optix_bus.errors import ConfigurationError

#: `sockaddr_un` holds 108 bytes and the kernel wants the last one to be zero.
MAX_IPC_PATH_BYTES = 107


@dataclass(frozen=True)
class HubEndpoints:
    """The addresses of one hub.

    Attributes:
        events_in: PULL, events from nodes.
        events_out: PUB, events to everybody, numbered.
        control: ROUTER, HELLO, HEAD and FETCH.
        side_in: PULL, heartbeats and log lines; lossy.
        side_out: PUB, the same to whoever listens, and the beacon; lossy.
    """

    events_in: str
    events_out: str
    control: str
    side_in: str
    side_out: str

    @classmethod
    def in_directory(cls, directory: str | os.PathLike[str]) -> HubEndpoints:
        """The addresses in a directory; nothing is created."""
        base = Path(directory).absolute()
        longest = len(os.fsencode(base / "side_out"))
        if longest > MAX_IPC_PATH_BYTES:
            raise ConfigurationError(
                f"the socket directory {base} makes addresses of {longest} bytes, a socket may have "
                f"{MAX_IPC_PATH_BYTES}: choose a shorter directory, e.g. under $XDG_RUNTIME_DIR or /tmp"
            )
        return cls(*(f"ipc://{base}/{name}" for name in ("in", "out", "ctl", "side_in", "side_out")))

    def __post_init__(self) -> None:
        for name, address in vars(self).items():
            if not address.startswith("ipc://"):
                raise ConfigurationError(
                    f"{name} is {address!r}: an address that others can reach needs CURVE keys, and none "
                    "were given; use ipc:// addresses in a private directory"
                )


def make_private(directory: str | os.PathLike[str]) -> Path:
    """Create the socket directory with mode 0700, or check that it is ours alone.

    Raises:
        ConfigurationError: the directory belongs to somebody else, or others may enter it.
    """
    path = Path(directory)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid():
        raise ConfigurationError(
            f"the socket directory {path} belongs to user {found.st_uid}, expected {os.getuid()}: "
            "choose a directory of your own"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(
            f"the socket directory {path} has mode {stat.S_IMODE(found.st_mode):04o}, expected 0700: whoever "
            f"may enter it could send events; run: chmod 700 {path}"
        )
    return path
