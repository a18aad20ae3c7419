"""Importing this imports what an agent in PyTorch needs before its first window, and does nothing else.

A process from which others are forked must only import: after a single operation that used threads, the first
one of a forked process would wait for ever for threads that were not forked with it.
"""

from __future__ import annotations

import torch._dynamo  # any optimizer of PyTorch imports this when it is made, which takes most of a second

from optix_bus.agents.torch import make_ppo

__all__ = ["make_ppo", "torch"]
