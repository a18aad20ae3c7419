"""Importing this imports what an agent in TensorFlow needs before its first window, and does nothing else.

A process from which others are forked must only import: the first operation starts TensorFlow's threads, and
a process forked after that would wait for ever for threads that were not forked with it.
"""

from __future__ import annotations

from optix_bus.agents.tensorflow import make_ppo

__all__ = ["make_ppo"]
