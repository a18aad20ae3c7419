"""Building small networks, and describing those that NumPy can run as well."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optix_bus.agents.acting.order import is_convolutional, is_feed_forward
from optix_bus.agents.kernels import kernel_of, orthogonal, stored_shape, stored_weights
from optix_bus.agents.tensorflow.images import ImageFlatten, ImageInput
from optix_bus.agents.tensorflow.joined_critic import JoinedCritic
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.types import SpaceSpec

Array = np.ndarray[Any, Any]

_ACTIVATIONS: dict[Any, tuple[str, float | None] | None] = {
    keras.activations.linear: None,
    keras.activations.tanh: ("tanh", None),
    keras.activations.relu: ("relu", None),
    keras.activations.sigmoid: ("sigmoid", None),
    keras.activations.silu: ("silu", None),
    keras.activations.gelu: ("gelu", None),
    keras.activations.elu: ("elu", 1.0),
    keras.activations.leaky_relu: ("leaky_relu", 0.2),
}


class OneHot(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Discrete observations ``[B]`` as rows of the unit matrix, ``[B, n]``."""

    def __init__(self, n: int, **options: Any) -> None:
        super().__init__(**options)
        self.n = n

    def call(self, observations: Any) -> Any:
        """Numbers 0..n-1 of any dtype and shape ``[B]`` or ``[B, 1]``."""
        return tf.one_hot(tf.cast(tf.reshape(observations, [-1]), tf.int32), self.n)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """``[B, n]``."""
        return (input_shape[0], self.n)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {**super().get_config(), "n": self.n}


class AppendConstant(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Numbers that do not depend on the input, behind those that do: ``[B, n]`` to ``[B, n + k]``.

    As the last layer of a Gaussian actor it holds the logarithms of the standard deviations.

    Args:
        value: ``[k]``, where training begins.
        options: of any Keras layer.
    """

    def __init__(self, value: Sequence[float], **options: Any) -> None:
        super().__init__(**options)
        self._begin = [float(each) for each in value]
        start = keras.initializers.Constant(np.asarray(self._begin, np.float32))
        self.value = self.add_weight(shape=(len(self._begin),), initializer=start, name="value")

    def call(self, x: Any) -> Any:
        """Append the value to each row."""
        rows = tf.broadcast_to(tf.convert_to_tensor(self.value), [tf.shape(x)[0], len(self._begin)])
        return tf.concat([x, rows], -1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """``[B, n + k]``."""
        return (input_shape[0], int(input_shape[-1] or 0) + len(self._begin))

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {**super().get_config(), "value": self._begin}


@dataclass(frozen=True)
class Held:
    """A variable of a network and the array that stands for it outside.

    Attributes:
        name: of the array.
        variable: of Keras.
        transposed: Keras keeps a kernel, see `optix_bus.agents.kernels`.
    """

    name: str
    variable: Any
    transposed: bool = False

    def array(self) -> Array:
        """A copy of the weights of now."""
        value = np.array(memoryview(read(self.variable)), order="C")
        return stored_weights(value) if self.transposed else value

    def assign(self, array: Array) -> None:
        """Put an array into force; its shape has been checked."""
        self.variable.assign(np.asarray(kernel_of(array) if self.transposed else array))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        shape = tuple(int(size) for size in self.variable.shape)
        return stored_shape(shape) if self.transposed else shape


def read(variable: Any) -> Any:
    """The value of a Keras variable as a tensor, without a copy."""
    value = variable.value
    return tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)


def build_mlp(
    inputs: int,
    hidden_sizes: Sequence[int],
    outputs: int,
    *,
    output_gain: float,
    rng: np.random.Generator,
    one_hot: bool = False,
    log_std: Sequence[float] = (),
) -> Any:
    """A tanh network with orthogonal weights (gain sqrt 2, the last layer ``output_gain``), zero biases.

    Andrychowicz et al. 2021, https://arxiv.org/abs/2006.05990, section 3.2: a small last layer of the policy
    matters, the rest less. ``log_std``, if there is one, becomes an `AppendConstant` at the end.
    """
    front = [keras.Input(shape=()), OneHot(inputs)] if one_hot else [keras.Input(shape=(inputs,))]
    # Zeros: other initialisers would draw from the generator of Keras.
    hidden = [keras.layers.Dense(size, "tanh", kernel_initializer="zeros") for size in hidden_sizes]
    last = keras.layers.Dense(outputs, kernel_initializer="zeros")
    behind = [AppendConstant(log_std)] if len(log_std) else []
    network = keras.Sequential([*front, *hidden, last, *behind])
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    sizes = [inputs, *hidden_sizes, outputs]
    for layer, (fan_in, fan_out) in zip(dense, itertools.pairwise(sizes), strict=True):
        gain = output_gain if layer is dense[-1] else math.sqrt(2.0)
        layer.kernel.assign((gain * orthogonal(fan_in, fan_out, rng)).astype(np.float32))
    return network


def build_relu_mlp(
    inputs: int,
    hidden_sizes: Sequence[int],
    outputs: int,
    *,
    rng: np.random.Generator,
    one_hot: bool = False,
) -> Any:
    """A network of rectified linear units whose weights and biases are uniform within 1 / sqrt(fan in)."""
    front = [keras.Input(shape=()), OneHot(inputs)] if one_hot else [keras.Input(shape=(inputs,))]
    hidden = [keras.layers.Dense(size, "relu", kernel_initializer="zeros") for size in hidden_sizes]
    network = keras.Sequential([*front, *hidden, keras.layers.Dense(outputs, kernel_initializer="zeros")])
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dense):
            bound = 1.0 / math.sqrt(layer.kernel.shape[0])
            for variable in (layer.kernel, layer.bias):
                variable.assign(rng.uniform(-bound, bound, tuple(variable.shape)).astype(np.float32))
    return network


def check_built(name: str, model: Any, spaces: SpaceSpec | None) -> None:
    """Raise unless the model is one of Keras and has its weights.

    Raises:
        ConfigurationError: it has none yet, or is something else.
    """
    if not isinstance(model, keras.Model):
        raise ConfigurationError(f"the {name} is a {type(model).__name__}, expected a Keras model")
    if not model.built and spaces is not None:
        model(tf.zeros((1, *spaces.observation.shape)))
    if not model.built or not model.variables:
        raise ConfigurationError(
            f"the {name} has no weights yet: begin it with keras.layers.Input(shape=...), or call it once "
            "before the agent is made"
        )


def check_outputs(name: str, model: Any, inputs: Sequence[int], outputs: int, environment: str) -> None:
    """Raise `Unsuitable` unless a model takes ``[B, *inputs]`` and gives ``[B, outputs]``, perhaps first."""
    check_call(name, model, tf.zeros((2, *inputs)), list(inputs), outputs, environment)


def check_call(name: str, model: Any, inputs: Any, said: Any, outputs: int, environment: str) -> None:
    """Raise `Unsuitable` unless a model takes two rows of inputs and gives ``[2, outputs]``, perhaps first.

    Args:
        name: of the model, for errors.
        model: of Keras.
        inputs: what it is called with.
        said: their shape without rows, for errors.
        outputs: numbers that are expected.
        environment: which the inputs come from, for errors.
    """
    try:
        given = model(inputs, training=False)
        found = [int(size) for size in (given[0] if isinstance(given, tuple | list) else given).shape]
    except (ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise Unsuitable(
            f"the {name} does not take inputs for {environment}, shape {said}: {reason}"
        ) from error
    if found != [2, outputs]:
        raise Unsuitable(
            f"the {name} gives {found} for 2 observations of {environment}, expected [2, {outputs}]"
        )


def shape_of(model: Any, observations: Array, place: int = 0) -> tuple[int, ...]:
    """Shape of what a model puts out for observations ``[n, *obs_shape]``.

    Empty where it puts out several things, and none in this place.
    """
    given = model(tf.constant(observations), training=False)
    several = given if isinstance(given, tuple | list) else (given,)
    return tuple(int(size) for size in several[place].shape) if place < len(several) else ()


def output_size(model: Any) -> int | None:
    """Numbers that a network puts out, first where it puts out several things; None where it does not say."""
    shape = getattr(model, "output_shape", None)
    shape = shape[0] if isinstance(shape, list) else shape
    return int(shape[-1]) if isinstance(shape, tuple) and shape[-1] is not None else None


def describe(model: Any, prefix: str) -> list[dict[str, Any]] | None:
    """The layers of a feed-forward network for `optix_bus.agents.acting`, or None where it is something else.

    Only exact layer types in a row, with float32 weights, count: a subclass may compute anything.

    Args:
        model: a (nested) ``Sequential``, or a functional model that is a chain.
        prefix: of its arrays' names, e.g. ``actor``. They count what is described, as a ``Sequential`` of
            PyTorch with the same layers does, so that weights can go from one framework to the other.
    """
    return _walk(model, prefix)[0]


def graph(
    function: Callable[..., Any], signature: Sequence[Any], *models: Any, translate: bool = False
) -> Any:
    """A `tf.function` of a function that calls models, for this signature only: it is traced once.

    Tracing takes three times as long where Python's ``if`` and ``for`` are translated as well. Ours has none
    that depend on tensors; a user's own layer may, and so may what ``translate`` is given for.
    """
    ours = [model for model in models if type(model) is JoinedCritic or describe(model, "") is not None]
    own = translate or len(ours) < len(models)
    return tf.function(function, input_signature=signature, autograph=own)


def held(model: Any, prefix: str) -> list[Held]:
    """Every variable of a model with the name of its array: as described, or else by position."""
    if type(model) is JoinedCritic:
        return [*held(model.features, f"{prefix}.features"), *held(model.value, f"{prefix}.value")]
    layers, variables = _walk(model, prefix)
    if layers is not None:
        return variables
    return [Held(f"{prefix}.{n}.{each.name}", each) for n, each in enumerate(model.variables)]


def _walk(model: Any, prefix: str) -> tuple[list[dict[str, Any]] | None, list[Held]]:
    layers: list[dict[str, Any]] = []
    variables: list[Held] = []
    known = _collect(model, prefix, layers, variables)
    if not known or not layers or len({id(each.variable) for each in variables}) != len(model.variables):
        return None, []
    if layers[0]["op"] == "image":  # other images have their channels behind, where NumPy has them in front
        return (layers, variables) if is_convolutional(layers) else (None, [])
    flat = layers[0]["op"] in ("one_hot", "flatten") or len(model.input_shape) == 2
    return (layers, variables) if flat and is_feed_forward(layers) else (None, [])


def _collect(model: Any, prefix: str, layers: list[dict[str, Any]], variables: list[Held]) -> bool:
    if type(model) is keras.Sequential or (type(model) is _functional() and _is_chain(model)):
        return all(_collect(layer, prefix, layers, variables) for layer in model.layers)
    if type(model) is keras.layers.InputLayer:
        return True
    if type(model) in (keras.layers.Dense, keras.layers.Conv2D):
        if model.compute_dtype != "float32" or getattr(model, "quantization_mode", None) or model.lora_rank:
            return False
        place = f"{prefix}.{len(layers)}"
        variables.append(Held(f"{place}.weight", model.kernel, transposed=True))
        if model.bias is not None:
            variables.append(Held(f"{place}.bias", model.bias))
        bias = None if model.bias is None else f"{place}.bias"
        layers.append({"op": "linear", "weight": f"{place}.weight", "bias": bias})
        if type(model) is keras.layers.Conv2D:
            layers[-1] |= {"op": "conv", "stride": list(model.strides)}
            plain = model.padding == "valid" and model.dilation_rate == (1, 1) and model.groups == 1
            if not plain or model.data_format != "channels_last":
                return False
        return _activate(model.activation, layers)
    if type(model) is AppendConstant:
        name = f"{prefix}.{len(layers)}.value"
        variables.append(Held(name, model.value))
        layers.append({"op": "append_constant", "value": name})
        return bool(model.compute_dtype == "float32")
    if type(model) in (keras.layers.Flatten, ImageFlatten):
        layers.append({"op": "flatten"})
        return (type(model) is ImageFlatten) == any(layer["op"] == "conv" for layer in layers)
    if type(model) is keras.layers.Activation:
        return _activate(model.activation, layers)
    if type(model) not in _LAYERS:
        return False
    layer = _LAYERS[type(model)](model)
    if layer is not None:
        layers.append(layer)
    return layer is not None


def _activate(activation: Any, layers: list[dict[str, Any]]) -> bool:
    try:
        found = _ACTIVATIONS[activation]
    except (KeyError, TypeError):  # something else, perhaps a layer that cannot be hashed
        return False
    if found is not None:
        name, parameter = found
        layers.append({"op": name} if parameter is None else {"op": name, "parameter": parameter})
    return True


def _is_chain(model: Any) -> bool:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return False
    before = None
    for layer in model.layers:
        try:
            entering, leaving = layer.input, layer.output
        except (AttributeError, ValueError):  # used several times, or never
            return False
        if before is not None and entering is not before:
            return False
        before = leaving
    return before is model.outputs[0]


def _relu(layer: Any) -> dict[str, Any] | None:
    plain = layer.max_value is None and layer.negative_slope == 0.0 and layer.threshold == 0.0
    return {"op": "relu"} if plain else None


@functools.cache
def _functional() -> type:
    # The class has no public name. Not made at import: this module is imported before processes are forked.
    x = keras.Input(shape=(1,))
    return type(keras.Model(inputs=x, outputs=x))


_LAYERS: dict[type, Callable[[Any], dict[str, Any] | None]] = {
    OneHot: lambda layer: {"op": "one_hot", "n": layer.n},
    ImageInput: lambda layer: {"op": "image", "channels_last": layer.channels_last},
    keras.layers.ReLU: _relu,
    keras.layers.ELU: lambda layer: {"op": "elu", "parameter": float(layer.alpha)},
    keras.layers.LeakyReLU: lambda layer: {"op": "leaky_relu", "parameter": float(layer.negative_slope)},
}
