"""Importing this imports what an agent in TensorFlow needs before its first window, and does nothing else.

A process from which others are forked must only import: the first operation starts TensorFlow's threads, and
a process forked after that would wait for ever for threads that were not forked with it.
"""

from __future__ import annotations

import optix_bus.agents.tensorflow.make_actor_critic
import optix_bus.agents.tensorflow.make_dqn
import optix_bus.agents.tensorflow.make_ppo  # noqa: F401 - what it is for
