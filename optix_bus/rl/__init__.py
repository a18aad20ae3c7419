"""The mathematics that carries no gradient: pure NumPy, cited, the same for every framework."""

from optix_bus.rl.gae import compute_gae
from optix_bus.rl.minibatches import make_minibatches
from optix_bus.rl.normalise import ObsNormalizer, RewardNormalizer, RunningMeanStd
from optix_bus.rl.prioritized import PrioritizedReplayBuffer
from optix_bus.rl.replay import ReplayBuffer, Transitions
from optix_bus.rl.vtrace import compute_vtrace_targets

__all__ = [
    "ObsNormalizer",
    "PrioritizedReplayBuffer",
    "ReplayBuffer",
    "RewardNormalizer",
    "RunningMeanStd",
    "Transitions",
    "compute_gae",
    "compute_vtrace_targets",
    "make_minibatches",
]
