"""Acting with a memory: GRU and LSTM cells in NumPy, float32, and a policy that keeps a state for each row.

Cho et al. 2014, https://arxiv.org/abs/1406.1078 (GRU, with the reset gate behind the product as in cuDNN);
Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735 (LSTM, with forget gates).

The memory of a row is one vector: the hidden states of all layers, of an LSTM followed by their cell states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.acting.images import forward_of
from optix_bus.agents.acting.mlp import Forward
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.interfaces import Acting

Array = np.ndarray[Any, Any]
Float32 = npt.NDArray[np.float32]
#: Observations ``[B, *obs_shape]`` and memory ``[B, S]`` to outputs ``[rows, out]``, B and the next memory.
Step = Callable[[Array, Float32], tuple[Float32, int, Float32]]

#: Gates of a cell, and vectors of memory of a layer.
KINDS = {"gru": (3, 1), "lstm": (4, 2)}
# As in `mlp`: with the batch rounded up, the numbers of a row do not depend on how many rows it came with.
_ROWS = 8


def encode(observations: Array, inputs: int) -> Array:
    """Observations ``[B, *obs_shape]`` as ``[B, inputs]``; whole numbers ``[B]`` as rows of the unit matrix.

    Raises:
        Unsuitable: they are of another size than the network takes.
    """
    if observations.ndim == 1 and observations.dtype.kind in "iu":
        if observations.size and not 0 <= int(observations.min()) <= int(observations.max()) < inputs:
            raise Unsuitable(
                f"found an observation outside 0..{inputs - 1} in {observations.tolist()[:8]}; "
                "the policy was built for another space"
            )
        return np.eye(inputs, dtype=np.float32)[observations]
    flat = observations.reshape(len(observations), -1)
    if flat.shape[1] != inputs:
        raise Unsuitable(
            f"found observations of shape {tuple(observations.shape[1:])}, "
            f"but the recurrent network takes {inputs} numbers"
        )
    return flat


class RecurrentForward:
    """A stack of cells and the head behind it, compiled from a description: a `Step`.

    Args:
        description: ``cell`` (``gru`` or ``lstm``), ``cells`` (for each layer the names of its arrays
            ``weight_ih`` ``[G H, in]``, ``weight_hh`` ``[G H, H]``, ``bias_ih`` and ``bias_hh`` ``[G H]`` or
            None, gates in the order r, z, n or i, f, g, o), ``layers`` (the head, see `mlp.Forward`),
            ``normalizer`` and perhaps ``encoder`` (layers in front of the cells, see `images.forward_of`).
        arrays: the weights by name. They are copied.

    Raises:
        ConfigurationError: the description names an unknown cell or a missing array.
    """

    def __init__(self, description: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        kind = description.get("cell")
        if kind not in KINDS:
            raise ConfigurationError(f"found a cell {kind!r}, expected one of {', '.join(KINDS)}")
        self._kind = kind
        self._gates, self._vectors = KINDS[kind]
        self._layers = [_Layer(names, arrays, self._gates) for names in description["cells"]]
        self._head = Forward(description["layers"], arrays)
        self.inputs = self._layers[0].inputs
        front = description.get("encoder")
        self._encoder = None if front is None else forward_of(front, arrays, features=self.inputs)
        self.hidden = self._layers[0].hidden
        #: Numbers that are remembered of each row.
        self.size = self._vectors * len(self._layers) * self.hidden
        self._scale: tuple[Array, Array, float] | None = None
        normalizer = description.get("normalizer")
        if normalizer is not None:
            mean, var = (np.asarray(arrays[normalizer[key]], np.float64) for key in ("mean", "var"))
            self._scale = (mean, np.sqrt(var + 1e-8), float(normalizer["clip"]))

    def __call__(self, observations: Array, memory: Float32) -> tuple[Float32, int, Float32]:
        """One step of all rows."""
        if self._scale is not None:
            mean, std, clip = self._scale
            observations = np.clip((observations - mean) / std, -clip, clip)
        count, hidden = len(observations), self.hidden
        if self._encoder is None:
            x: Array = encode(observations, self.inputs)
        else:
            x = self._encoder(observations)[0][:count]
        following = np.empty((count, self.size), np.float32)
        offset = len(self._layers) * hidden
        for number, layer in enumerate(self._layers):
            begin = number * hidden
            own = slice(begin, begin + hidden)
            h = memory[:, own]
            from_input, from_memory = layer.products(x, h)
            if self._kind == "gru":
                _gru(from_input, from_memory, h, following[:, own])
            else:
                cell = slice(offset + begin, offset + begin + hidden)
                from_input += from_memory
                _lstm(from_input, memory[:, cell], following[:, own], following[:, cell])
            x = following[:, own]
        outputs, _ = self._head(x)
        return outputs, count, following


class Memory:
    """A forward pass (`optix_bus.agents.acting.categorical.Logits`) that keeps a state for each row.

    Rows are environments: a batch of another size than the last one begins with an empty memory.
    """

    def __init__(self, step: Step, size: int) -> None:
        self._step = step
        self.size = size
        #: ``[B, S]`` float32, None before the first observation.
        self.rows: Float32 | None = None

    def __call__(self, observations: Array) -> tuple[Float32, int]:
        """Outputs and their number of rows; the memory moves one step on."""
        outputs, count, self.rows = self._step(observations, self.of(len(observations)))
        return outputs, count

    def of(self, count: int) -> Float32:
        """The memory of so many rows, empty where there were others."""
        if self.rows is None or len(self.rows) != count:
            self.rows = np.zeros((count, self.size), np.float32)
        return self.rows


class RecurrentPolicy:
    """A `Policy` that is `Remembering`: any head behind a forward pass with memory.

    Args:
        memory: the forward pass that ``policy`` acts from.
        policy: what makes actions of its outputs.
    """

    def __init__(self, memory: Memory, policy: Any) -> None:
        self._memory = memory
        self._policy = policy

    def act_batch(
        self, observations: Array, *, deterministic: bool = False, action_masks: Array | None = None
    ) -> Acting:
        """Act for ``[B, *obs_shape]``, one row an environment, and remember.

        ``action_masks`` are for heads that know them.
        """
        masks = {} if action_masks is None else {"action_masks": action_masks}
        acting: Acting = self._policy.act_batch(observations, deterministic=deterministic, **masks)
        return acting

    def action_probs(self, observations: Array) -> Array:
        """What the head says of the next action, given what is remembered; nothing is added to the memory."""
        before = self._memory.rows
        try:
            probabilities: Array = self._policy.action_probs(observations)
        finally:
            self._memory.rows = before
        return probabilities

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        self._policy.reseed(rng)

    def episode_start(self, mask: Array) -> None:
        """Forget the rows ``[B]`` bool in which an episode begins with the next observation."""
        rows = self._memory.of(len(mask)).copy()
        rows[np.asarray(mask, bool)] = 0.0
        self._memory.rows = rows

    def memory(self) -> Float32 | None:
        """What is remembered before the next observation, a copy ``[B, S]``."""
        return None if self._memory.rows is None else self._memory.rows.copy()

    def load_memory(self, memory: Array | None) -> None:
        """Go on from there; rows of another size are forgotten."""
        if memory is None:
            self._memory.rows = None
            return
        fits = memory.ndim == 2 and memory.shape[1] == self._memory.size
        self._memory.rows = (
            np.array(memory, np.float32) if fits else np.zeros((len(memory), self._memory.size), np.float32)
        )


class _Layer:
    """The matrices of one cell, transposed for BLAS, and buffers for the rows of a batch."""

    def __init__(self, names: Mapping[str, str | None], arrays: Mapping[str, Array], gates: int) -> None:
        def find(key: str) -> Array:
            name = names[key]
            if name is None or name not in arrays:
                raise ConfigurationError(
                    f"the policy description names the array {name!r}, found only {', '.join(sorted(arrays))}"
                )
            return arrays[name]

        weights = [np.array(find(f"weight_{part}").T, np.float32, order="C") for part in ("ih", "hh")]
        width = weights[0].shape[1]
        self._weights = weights
        self._biases = [
            np.zeros(width, np.float32) if names.get(f"bias_{part}") is None else find(f"bias_{part}").copy()
            for part in ("ih", "hh")
        ]
        self.inputs = int(weights[0].shape[0])
        self.hidden = width // gates
        self._buffers: dict[int, tuple[Float32, Float32]] = {}

    def products(self, x: Array, h: Array) -> tuple[Float32, Float32]:
        """What input ``[B, in]`` and hidden state ``[B, H]`` send to the gates, ``[B, G H]`` each, fresh."""
        count = len(x)
        rows = -(-count // _ROWS) * _ROWS
        if rows not in self._buffers:
            self._buffers[rows] = (
                np.zeros((rows, self.inputs), np.float32),
                np.zeros((rows, self.hidden), np.float32),
            )
        padded = self._buffers[rows]
        products = []
        for given, room, weight, bias in zip((x, h), padded, self._weights, self._biases, strict=True):
            room[:count] = given
            product = room @ weight
            product += bias
            products.append(product[:count])
        return products[0], products[1]


def _gru(from_input: Float32, from_memory: Float32, h: Array, out: Array) -> None:
    hidden = h.shape[1]
    gates = from_input[:, : 2 * hidden]
    gates += from_memory[:, : 2 * hidden]
    _sigmoid(gates)
    reset, update = gates[:, :hidden], gates[:, hidden:]
    new = from_memory[:, 2 * hidden :]
    new *= reset
    new += from_input[:, 2 * hidden :]
    np.tanh(new, out=new)
    # (1 - z) n + z h
    np.subtract(h, new, out=out)
    out *= update
    out += new


def _lstm(gates: Float32, c: Array, out: Array, cell: Array) -> None:
    hidden = c.shape[1]
    new = np.tanh(gates[:, 2 * hidden : 3 * hidden])
    _sigmoid(gates)
    np.multiply(gates[:, hidden : 2 * hidden], c, out=cell)
    new *= gates[:, :hidden]
    cell += new
    np.tanh(cell, out=out)
    out *= gates[:, 3 * hidden :]


def _sigmoid(x: Array) -> None:
    x *= 0.5
    np.tanh(x, out=x)
    x += 1
    x *= 0.5


def cell_names(prefix: str, layers: int, biases: bool) -> Sequence[Mapping[str, str | None]]:
    """``cells`` of a description, for arrays that are named as PyTorch names them."""
    return [
        {
            **{f"weight_{part}": f"{prefix}.weight_{part}_l{n}" for part in ("ih", "hh")},
            **{f"bias_{part}": f"{prefix}.bias_{part}_l{n}" if biases else None for part in ("ih", "hh")},
        }
        for n in range(layers)
    ]
