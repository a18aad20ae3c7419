"""A policy as an ONNX graph, from the description and the arrays that it acts from: no framework is needed.

The graph takes observations as the environment gives them and answers the deterministic action in the
environment's own units: normalisation comes in front, the choice of the best action, or tanh and bounds,
behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optix_bus.agents.acting.load import FORMAT
from optix_bus.agents.action_box import ActionBox
from optix_bus.agents.heads import Gaussian, bounds_of
from optix_bus.agents.onnx_builder import Graph
from optix_bus.agents.storage import write_whole
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.types import NamedArrays

Array = np.ndarray[Any, Any]


def export_onnx(state: NamedArrays, path: str, observation_shape: Sequence[int] | None = None) -> None:
    """Write the policy of a state to a file, never half of it.

    Inputs are ``observations``, float32 ``[batch, *obs_shape]``, also for images, whose bytes become numbers
    from 0 to 255 (int64 ``[batch]`` where observations are discrete), and for a policy with a memory
    ``memory``, float32 ``[batch, S]``, zeros at the start of an episode.
    Outputs are ``actions`` ``[batch, *action_shape]`` and, with a memory, ``next_memory``.

    Args:
        state: what ``agent.state()`` returned.
        path: of the file, by custom ``*.onnx``.
        observation_shape: of one observation. It is needed only where the network does not tell: without it,
            observations that the network flattens come flat already, and grey images without channels.

    Raises:
        Unsuitable: the policy is a network that only its framework can run.
        ConfigurationError: the state has no description of a policy.
        MissingExtra: the package ``onnx`` is not installed.
        CheckpointError: the file cannot be written.
    """
    content: bytes = onnx_model(state, observation_shape).SerializeToString()
    write_whole(Path(path), content, "the policy")


def onnx_model(state: NamedArrays, observation_shape: Sequence[int] | None = None) -> Any:
    """The policy of a state as an ``onnx.ModelProto``; see `export_onnx`."""
    description: Any = state.metadata.get("policy")
    if not isinstance(description, Mapping) or description.get("format") != FORMAT:
        raise ConfigurationError(
            f"found a state without a policy description of format {FORMAT} (metadata: "
            f"{', '.join(state.metadata) or 'empty'}); expected what agents with state() write"
        )
    kind = description.get("kind")
    if kind not in _NETWORKS:
        raise Unsuitable(
            f"found a policy of kind {kind!r}, expected one of {', '.join(_NETWORKS)}: its network is more "
            "than layers known here. Export it with the tool of its framework, e.g. torch.onnx.export"
        )
    graph = Graph(state.arrays, observation_shape)
    outputs = _NETWORKS[kind](graph, description)
    head = description.get("head")
    if head not in _HEADS:
        raise Unsuitable(f"found a policy with head {head!r}, expected one of {', '.join(_HEADS)}")
    _HEADS[head](graph, outputs, description)
    return graph.model({"algorithm": state.metadata.get("algorithm", ""), "head": head})


# Networks: from observations to the outputs that a head makes actions of.


def _mlp(graph: Graph, description: Mapping[str, Any]) -> str:
    layers = list(description["layers"])
    if layers[0]["op"] == "one_hot":
        chosen = graph.input("observations", "int64", ())
        # Not OneHot: that answers zeros where the observation is none.
        x = graph.op("Gather", graph.constant(np.eye(layers.pop(0)["n"])), chosen)
        return _layers(graph, x, layers)
    normalizer = description.get("normalizer")
    shape: Sequence[int | str]
    if normalizer is not None:
        shape = graph.saved(normalizer["mean"]).shape
    else:
        first = next(layer for layer in layers if layer["op"] in ("linear", "conv"))
        inputs = graph.saved(first["weight"]).shape[1]
        shape = (inputs,) if first["op"] == "linear" else _image_shape(layers[0], inputs)
    x = _normalized(graph, graph.observations(shape), normalizer)
    return _layers(graph, x, layers)


def _image_shape(first: Mapping[str, Any], channels: int) -> Sequence[int | str]:
    size = ("height", "width")
    if first["op"] == "image" and first["channels_last"]:
        return (*size, channels)
    return size if first["op"] == "image" and channels == 1 else (channels, *size)


def _normalized(graph: Graph, x: str, normalizer: Mapping[str, Any] | None) -> str:
    if normalizer is None:
        return x
    mean, var = (np.asarray(graph.saved(normalizer[key]), np.float64) for key in ("mean", "var"))
    # In float64, as where it is learnt: a large mean would swallow what matters in float32.
    centred = graph.op("Sub", graph.cast(x, "float64"), graph.constant(mean, np.float64))
    scaled = graph.op("Div", centred, graph.constant(np.sqrt(var + 1e-8), np.float64))
    bounds = [graph.constant(sign * float(normalizer["clip"]), np.float64) for sign in (-1.0, 1.0)]
    return graph.cast(graph.op("Clip", scaled, *bounds), "float32")


def _layers(graph: Graph, x: str, layers: Sequence[Mapping[str, Any]]) -> str:
    for layer in layers:
        op, parameter = layer["op"], layer.get("parameter")
        if op == "flatten":
            x = graph.op("Flatten", x, axis=1)
        elif op == "linear":
            bias = layer.get("bias")
            x = graph.linear(x, graph.saved(layer["weight"]), None if bias is None else graph.saved(bias))
        elif op == "image":
            channels = next(graph.saved(each["weight"]).shape[1] for each in layers if each["op"] == "conv")
            x = _image(graph, x, channels, last=bool(layer["channels_last"]))
        elif op == "conv":
            names = [layer["weight"], *([] if layer.get("bias") is None else [layer["bias"]])]
            weights = [graph.constant(graph.saved(name)) for name in names]
            x = graph.op("Conv", x, *weights, strides=[int(step) for step in layer["stride"]])
        elif op == "append_constant":
            x = _appended(graph, x, graph.saved(layer["value"]))
        elif op in _PLAIN:
            x = graph.op(_PLAIN[op], x)
        elif op == "elu":
            x = graph.op("Elu", x, alpha=1.0 if parameter is None else float(parameter))
        elif op == "leaky_relu":
            x = graph.op("LeakyRelu", x, alpha=1.0 if parameter is None else float(parameter))
        elif op == "silu":
            x = graph.op("Mul", x, graph.op("Sigmoid", x))
        elif op in ("gelu", "gelu_tanh"):
            x = _gelu(graph, x, exact=op == "gelu")
        else:
            raise Unsuitable(f"found layer {op!r} in a policy description, which cannot be exported")
    return x


def _image(graph: Graph, x: str, channels: int, *, last: bool) -> str:
    """Bytes as numbers from 0 to 1, channels in front; a grey image may come without an axis for them."""
    x = graph.op("Div", x, graph.constant(255.0))
    if last:
        return graph.op("Transpose", x, perm=[0, 3, 1, 2])
    front = graph.constant([-1, channels], np.int64)
    size = graph.op("Shape", x, start=-2)
    return graph.op("Reshape", x, graph.op("Concat", front, size, axis=0))


def _appended(graph: Graph, x: str, tail: Array) -> str:
    # Zeros of as many rows, plus the tail.
    rows = graph.op("Mul", graph.columns(x, 0, 1), graph.constant(np.zeros((1, len(tail)))))
    return graph.op("Concat", x, graph.op("Add", rows, graph.constant(tail)), axis=1)


def _gelu(graph: Graph, x: str, *, exact: bool) -> str:
    if exact:
        gate = graph.op("Erf", graph.op("Mul", x, graph.constant(math.sqrt(0.5))))
    else:
        cube = graph.op("Mul", graph.op("Mul", x, x), x)
        inner = graph.op("Add", x, graph.op("Mul", cube, graph.constant(0.044715)))
        gate = graph.op("Tanh", graph.op("Mul", inner, graph.constant(math.sqrt(2.0 / math.pi))))
    half = graph.op("Mul", x, graph.constant(0.5))
    return graph.op("Mul", half, graph.op("Add", gate, graph.constant(1.0)))


def _noisy_dueling(graph: Graph, description: Mapping[str, Any]) -> str:
    """Without noise, as in evaluation: the means of the weights."""
    features = _mlp(graph, description)
    streams = []
    for name in ("value", "advantage"):
        x, layers = features, description["streams"][name]
        for number, layer in enumerate(layers):
            x = graph.linear(x, graph.saved(f"{layer}.weight_mu"), graph.saved(f"{layer}.bias_mu"))
            x = graph.op("Relu", x) if number < len(layers) - 1 else x
        streams.append(x)
    actions, atoms = int(description["n_actions"]), int(description["n_atoms"])
    value, advantage = (
        graph.op("Reshape", x, graph.constant([-1, rows, atoms], np.int64))
        for x, rows in zip(streams, (1, actions), strict=True)
    )
    centred = graph.op("Sub", advantage, graph.op("ReduceMean", advantage, axes=[1], keepdims=1))
    mass = graph.op("Softmax", graph.op("Add", value, centred), axis=2)
    support = np.linspace(description["v_min"], description["v_max"], atoms, dtype=np.float32)
    means = graph.op("MatMul", mass, graph.constant(support[:, None]))
    return graph.op("Reshape", means, graph.constant([-1, actions], np.int64))


def _recurrent(graph: Graph, description: Mapping[str, Any]) -> str:
    cells, is_lstm = description["cells"], description["cell"] == "lstm"
    hidden = graph.saved(cells[0]["weight_hh"]).shape[1]
    size = (2 if is_lstm else 1) * len(cells) * hidden
    if "encoder" in description:
        x = _mlp(graph, {**description, "layers": description["encoder"]})
    else:
        normalizer = description.get("normalizer")
        inputs = graph.saved(cells[0]["weight_ih"]).shape[1:]
        shape = inputs if normalizer is None else graph.saved(normalizer["mean"]).shape
        observations = _normalized(graph, graph.observations(shape), normalizer)
        x = graph.op("Flatten", observations, axis=1)
    memory = graph.input("memory", "float32", (size,))
    states, carried = [], []
    for number, names in enumerate(cells):
        h = graph.columns(memory, number * hidden, (number + 1) * hidden)
        products = []
        for part, source in (("ih", x), ("hh", h)):
            bias = names.get(f"bias_{part}")
            own = None if bias is None else graph.saved(bias)
            products.append(graph.linear(source, graph.saved(names[f"weight_{part}"]), own))
        if is_lstm:
            begin = (len(cells) + number) * hidden
            c = graph.columns(memory, begin, begin + hidden)
            x, cell = _lstm(graph, graph.op("Add", *products), c, hidden)
            carried.append(cell)
        else:
            x = _gru(graph, products[0], products[1], h, hidden)
        states.append(x)
    graph.output("next_memory", graph.op("Concat", *states, *carried, axis=1), "float32", (size,))
    return _layers(graph, x, description["layers"])


def _gru(graph: Graph, from_input: str, from_memory: str, h: str, hidden: int) -> str:
    def part(x: str, gate: int) -> str:
        return graph.columns(x, gate * hidden, (gate + 1) * hidden)

    reset, update = (
        graph.op("Sigmoid", graph.op("Add", part(from_input, gate), part(from_memory, gate)))
        for gate in (0, 1)
    )
    behind = graph.op("Mul", reset, part(from_memory, 2))
    new = graph.op("Tanh", graph.op("Add", part(from_input, 2), behind))
    # (1 - z) n + z h
    return graph.op("Add", new, graph.op("Mul", update, graph.op("Sub", h, new)))


def _lstm(graph: Graph, gates: str, c: str, hidden: int) -> tuple[str, str]:
    parts = [graph.columns(gates, gate * hidden, (gate + 1) * hidden) for gate in range(4)]
    enter, forget, leave = (graph.op("Sigmoid", parts[gate]) for gate in (0, 1, 3))
    new = graph.op("Mul", enter, graph.op("Tanh", parts[2]))
    cell = graph.op("Add", graph.op("Mul", forget, c), new)
    return graph.op("Mul", leave, graph.op("Tanh", cell)), cell


# Heads: from outputs to deterministic actions.


def _best(graph: Graph, outputs: str, description: Mapping[str, Any]) -> None:
    graph.output("actions", graph.op("ArgMax", outputs, axis=1, keepdims=0), "int64", ())


def _several_best(graph: Graph, outputs: str, description: Mapping[str, Any]) -> None:
    shape, begin, chosen = description["shape"], 0, []
    for count in description["nvec"]:
        chosen.append(graph.op("ArgMax", graph.columns(outputs, begin, begin + count), axis=1, keepdims=1))
        begin += count
    graph.output("actions", graph.shaped(graph.op("Concat", *chosen, axis=1), shape), "int64", shape)


def _yes_or_no(graph: Graph, outputs: str, description: Mapping[str, Any]) -> None:
    taken = graph.cast(graph.op("Greater", outputs, graph.constant(0.0)), "int8")
    graph.output("actions", graph.shaped(taken, description["shape"]), "int8", description["shape"])


def _gaussian(graph: Graph, outputs: str, description: Mapping[str, Any]) -> None:
    head = Gaussian(*(tuple(description[key]) for key in ("shape", "low", "high")))
    mean = graph.op("Mul", graph.columns(outputs, 0, head.dim), graph.constant(head.reach))
    mean = graph.op("Add", mean, graph.constant(head.centre))
    inside = _between(graph, mean, *bounds_of(head)) if head.low else mean
    graph.output("actions", graph.shaped(inside, head.shape), "float32", head.shape)


def _squashed(graph: Graph, outputs: str, description: Mapping[str, Any]) -> None:
    box = ActionBox.from_description(description)
    unit = graph.columns(outputs, 0, box.dim)
    unit = graph.op("Tanh", unit) if description.get("squash", True) else unit
    actions = graph.op("Mul", unit, graph.constant(box.reach))
    actions = _between(graph, graph.op("Add", actions, graph.constant(box.centre)), *box.bounds)
    graph.output("actions", graph.cast(graph.shaped(actions, box.shape), box.dtype), box.dtype, box.shape)


def _between(graph: Graph, x: str, low: Array, high: Array) -> str:
    return graph.op("Min", graph.op("Max", x, graph.constant(low)), graph.constant(high))


_PLAIN = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "identity": "Identity"}
_NETWORKS: dict[str, Callable[[Graph, Mapping[str, Any]], str]] = {
    "mlp": _mlp,
    "noisy_dueling": _noisy_dueling,
    "recurrent": _recurrent,
}
_HEADS: dict[str, Callable[[Graph, str, Mapping[str, Any]], None]] = {
    "bernoulli": _yes_or_no,
    "categorical": _best,
    "deterministic": _squashed,
    "epsilon_greedy": _best,
    "gaussian": _gaussian,
    "multi_categorical": _several_best,
    "noisy_greedy": _best,
    "squashed_gaussian": _squashed,
}
