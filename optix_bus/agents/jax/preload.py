"""Importing this imports what an agent in JAX needs before its first window, and does nothing else.

A process from which others are forked must only import. JAX starts its threads when it computes for the first
time, and what is forked after that would wait for them for ever; so no module here makes an array while it is
imported.
"""

from __future__ import annotations

import jax

from optix_bus.agents.jax import make_ppo

__all__ = ["jax", "make_ppo"]
