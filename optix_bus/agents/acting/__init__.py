"""Acting without a framework: `load_policy` turns an agent's state into a NumPy policy.

The description, ``state.metadata["policy"]``, is plain data::

    {"format": 1, "kind": "mlp", "head": "categorical",
     "layers": [{"op": "linear", "weight": "actor.0.weight", "bias": "actor.0.bias"}, {"op": "tanh"}, ...],
     "normalizer": {"mean": "obs_normalizer.mean", "var": "obs_normalizer.var", "clip": 10.0} or None}

``kind`` is ``recurrent`` where a GRU or LSTM with a memory stands in front of the layers (see `recurrent`),
``ensemble`` where several policies act as one (``names``, ``members`` and ``weights``; the arrays of each
stand below its name), and ``agent`` where the network is none that NumPy can run: only the agent itself can
act then.
"""

from optix_bus.agents.acting.categorical import CategoricalPolicy
from optix_bus.agents.acting.load import is_portable, load_policy

__all__ = ["CategoricalPolicy", "is_portable", "load_policy"]
