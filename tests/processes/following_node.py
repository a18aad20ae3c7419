"""A subscriber in a process of its own: `python -m tests.processes.following_node SOCKETS LAST`.

Ends with 0 when it has seen every event from 1 to LAST once and in order, with what it counted on its output.
"""

from __future__ import annotations

import sys

from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link


def main() -> int:
    sockets, last = sys.argv[1], int(sys.argv[2])
    link = Link(HubEndpoints.in_directory(sockets))
    link.connect(30.0)
    print("connected", flush=True)
    seen = 0
    while seen < last:
        for record in link.poll(1.0):
            if record.seq != seen + 1:
                print(f"event {record.seq} came behind {seen}")
                return 1
            seen = record.seq
    print(f"catch_ups {link.counters['catch_ups']}")
    link.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
