"""How many threads compute: one, everywhere, because sums in another order are other numbers."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

#: Read by TensorFlow at its first operation; later it cannot be told any more.
_TENSORFLOW = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@contextlib.contextmanager
def one_thread(*, framework: bool = True) -> Iterator[None]:
    """Threads of the linear algebra library and of the framework as in a node process.

    ``framework`` is False where no node computes with one: loading it would take longer than what is to be
    done.
    """
    torch = sys.modules.get("torch")
    if torch is None and framework:
        with contextlib.suppress(ImportError):
            torch = importlib.import_module("torch")
    before = torch.get_num_threads() if torch is not None else None
    if torch is not None:
        torch.set_num_threads(1)
    unset = [name for name in _TENSORFLOW if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, "1"))
    try:
        with threadpool_limits(1):
            yield
    finally:
        for name in unset:
            os.environ.pop(name, None)
        if torch is not None and before is not None:
            torch.set_num_threads(before)
