import time, sys
import pytest
from tests.bus.harness import *
from tests.bus.conftest import *
@pytest.mark.parametrize("n", range(20))
def test_x(hub, connect, n):
    slow = connect(queue_events=5)
    link = connect(["n"], 1)
    for start in range(0, 10_000, 1000):
        for i in range(start,start+1000): link.emit("n",0,i,"Tick",EMPTY)
        collect(link, 1000)
    try: collect(slow, 10000, 3.0)
    except AssertionError as e:
        print(e); print({k:v for k,v in vars(slow).items() if k in("_seq","_head","_head_since","_fetching","_boot","_asked_at","_inbox")}, slow.is_connected, slow.beacon and (slow.beacon.head, slow.beacon.boot), hub.hub.boot, hub._thread.is_alive(), time.monotonic())
        print("side", slow._side.poll(500), "sub", slow._in.poll(100), "fresh", )
        f=Link(hub.endpoints); f.connect(20); f.poll(.5); print("fresh", f.beacon is not None, f.seq); f.close()
        import faulthandler; faulthandler.dump_traceback(all_threads=True)
        raise
