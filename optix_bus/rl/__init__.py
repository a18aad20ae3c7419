"""The mathematics that carries no gradient: pure NumPy, cited, the same for every framework."""

from optix_bus.rl.gae import compute_gae
from optix_bus.rl.minibatches import make_minibatches
from optix_bus.rl.normalise import ObsNormalizer, RewardNormalizer, RunningMeanStd

__all__ = ["ObsNormalizer", "RewardNormalizer", "RunningMeanStd", "compute_gae", "make_minibatches"]
