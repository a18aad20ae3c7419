"""ZeroMQ sockets as the bus uses them: bounded queues, nothing that lingers, and calls without detours."""

from __future__ import annotations

from typing import Any

import zmq

#: Flags as plain numbers: arithmetic on the enumeration costs more than the sending.
NOW = int(zmq.NOBLOCK)
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
READABLE = int(zmq.POLLIN)

_MAX_MESSAGE_BYTES = 4 * 1024 * 1024


def connected(context: zmq.Context[Any], kind: int, address: str, queue: int) -> zmq.Socket[bytes]:
    """A socket of a link, connected to a hub that may come and go; ``queue`` messages wait in it at most."""
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.linger = 0
    socket.set_hwm(queue)
    # The default of 100 ms would be most of the time that a restarted hub is missed.
    socket.setsockopt(zmq.RECONNECT_IVL, 10)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
    socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
    if kind in (zmq.PUSH, zmq.DEALER):
        # Nothing is queued for a hub that is not there: the outbox is the queue, and it survives.
        socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.connect(address)
    return socket


def compiled(socket: zmq.Socket[bytes]) -> Any:
    """The compiled calls of a socket, without the wrappers around them, which cost more than a message."""
    return super(zmq.Socket, socket)
