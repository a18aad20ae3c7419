"""Flax networks: small ones built, weights as named arrays, and those described that NumPy can run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from optix_bus.agents.acting.order import is_convolutional, is_feed_forward
from optix_bus.agents.jax.images import ImageFlatten, ImageInput, convolve
from optix_bus.agents.kernels import kernel_of, orthogonal, stored_shape, stored_weights
from optix_bus.errors import CheckpointError, Unsuitable
from optix_bus.types import SpaceSpec

Array = np.ndarray[Any, Any]
#: Nested mappings of arrays, as ``module.init`` returns them below ``params``.
Weights = Mapping[str, Any]

_ACTIVATIONS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (jnp.tanh, {"op": "tanh"}),
    (jax.nn.tanh, {"op": "tanh"}),
    (jax.nn.relu, {"op": "relu"}),
    (jax.nn.sigmoid, {"op": "sigmoid"}),
    (jax.nn.silu, {"op": "silu"}),
    (jax.nn.gelu, {"op": "gelu_tanh"}),
    (jax.nn.elu, {"op": "elu", "parameter": 1.0}),
    (jax.nn.leaky_relu, {"op": "leaky_relu", "parameter": 0.01}),
)


class OneHot(nn.Module):
    """Discrete observations ``[B]`` or ``[B, 1]`` as rows of the unit matrix, ``[B, n]``."""

    n: int

    def __call__(self, observations: jax.Array) -> jax.Array:
        """Numbers 0..n-1 of any dtype."""
        return jax.nn.one_hot(observations.reshape(len(observations)).astype(jnp.int32), self.n)


class Flatten(nn.Module):
    """Observations ``[B, ...]`` as ``[B, n]``."""

    def __call__(self, observations: jax.Array) -> jax.Array:
        """Everything behind the first axis in one row."""
        return observations.reshape(len(observations), -1)


def build_mlp(hidden_sizes: Sequence[int], outputs: int, *, one_hot: int = 0) -> nn.Sequential:
    """A tanh network; with ``one_hot`` for that many discrete observations."""
    layers: list[Any] = [OneHot(one_hot)] if one_hot else []
    for size in hidden_sizes:
        layers += [nn.Dense(size), jnp.tanh]
    return nn.Sequential([*layers, nn.Dense(outputs)])


def orthogonal_weights(
    module: nn.Sequential, inputs: int, output_gain: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Weights for a network of `build_mlp`: orthogonal, gain sqrt 2 and ``output_gain`` at last, zero biases.

    Andrychowicz et al. 2021, https://arxiv.org/abs/2006.05990, section 3.2.
    """
    dense = [(number, layer) for number, layer in enumerate(module.layers) if isinstance(layer, nn.Dense)]
    sizes = [inputs, *(layer.features for _, layer in dense)]
    weights: dict[str, Any] = {}
    for (number, _), (fan_in, fan_out) in zip(dense, itertools.pairwise(sizes), strict=True):
        gain = output_gain if number == dense[-1][0] else math.sqrt(2.0)
        kernel = gain * orthogonal(fan_in, fan_out, rng)
        weights[f"layers_{number}"] = {
            "kernel": jnp.asarray(kernel, jnp.float32),
            "bias": jnp.zeros(fan_out, jnp.float32),
        }
    return weights


def initial_weights(module: nn.Module, shape: Sequence[int], rng: np.random.Generator) -> Weights:
    """What the module itself begins with, for observations of this shape.

    Raises:
        Unsuitable: it does not take them, or keeps more than weights.
    """
    key = jax.random.key(int(rng.integers(2**31)))
    try:
        variables = module.init(key, jnp.zeros((2, *shape), jnp.float32))
    except Exception as error:  # whatever a user's network raises
        reason = str(error).splitlines()[0]
        raise Unsuitable(
            f"{type(module).__name__} does not take observations of shape {list(shape)}: {reason}"
        ) from error
    others = sorted(set(variables) - {"params"})
    if others:
        raise Unsuitable(
            f"{type(module).__name__} keeps {', '.join(others)} beside its weights; expected a network whose "
            "outputs depend on weights and observations alone (no batch statistics)"
        )
    weights: Weights = variables.get("params", {})
    return weights


def apply(module: nn.Module, weights: Weights, observations: jax.Array) -> jax.Array:
    """Outputs of the network, also for weights that are being traced."""
    outputs: Any = module.apply({"params": weights}, observations)
    return jnp.asarray(outputs)


def shape_of(module: nn.Module, weights: Weights, observations: Any) -> tuple[int, ...]:
    """Shape of what a network gives for observations ``[n, *obs_shape]``."""
    outputs = jax.eval_shape(lambda w, x: apply(module, w, x), weights, observations)
    return tuple(int(size) for size in outputs.shape)


def check_networks(networks: Mapping[str, tuple[nn.Module, Weights, int]], spaces: SpaceSpec) -> None:
    """Raise `Unsuitable` unless each network gives as many numbers as it should for one observation."""
    example = jnp.zeros((2, *spaces.observation.shape), jnp.float32)
    for name, (module, weights, size) in networks.items():
        try:
            found = shape_of(module, weights, example)
        except Exception as error:  # whatever a user's network raises
            reason = str(error).splitlines()[0]
            raise Unsuitable(
                f"the {name} does not take observations of {spaces.environment}, shape "
                f"{list(spaces.observation.shape)}: {reason}"
            ) from error
        if found != (2, size):
            raise Unsuitable(
                f"the {name} gives {list(found)} for 2 observations of {spaces.environment}, "
                f"expected [2, {size}]"
            )


def network_arrays(prefix: str, module: nn.Module, weights: Weights) -> dict[str, Array]:
    """Copies of all weights by name.

    A network that `describe` knows names them as PyTorch does, ``actor.0.weight`` ``[out, in]``, so that a
    policy reads alike wherever it was learnt; any other by its path, ``actor.Dense_0.kernel``. See
    `optix_bus.agents.kernels`.
    """
    plain = describe(module, prefix) is not None
    arrays = {}
    for path, leaf in _leaves(weights).items():
        array = np.array(leaf)
        turned = plain and path[-1] == "kernel"
        arrays[_name(prefix, path, plain)] = stored_weights(array) if turned else array
    return arrays


def network_weights(
    prefix: str, module: nn.Module, like: Weights, arrays: Mapping[str, Array]
) -> dict[str, Any]:
    """The weights that `network_arrays` wrote.

    Raises:
        CheckpointError: an array is missing or has another shape than in ``like``.
    """
    plain = describe(module, prefix) is not None
    found = {}
    for path, leaf in _leaves(like).items():
        name = _name(prefix, path, plain)
        if name not in arrays:
            raise CheckpointError(f"the saved weights lack {name}; they belong to another network")
        turned = plain and path[-1] == "kernel"
        array = np.asarray(arrays[name])
        array = kernel_of(array) if turned else array
        if array.shape != leaf.shape:
            shape = list(stored_shape(leaf.shape) if turned else leaf.shape)
            raise CheckpointError(
                f"the saved weights have {name} of shape {list(np.shape(arrays[name]))}, this network "
                f"{shape}: build the agent with the sizes it was saved with"
            )
        found[path] = jnp.asarray(np.array(array), leaf.dtype)
    return dict(unflatten_dict(found))  # type: ignore[no-untyped-call]


def describe(module: nn.Module, prefix: str) -> list[dict[str, Any]] | None:
    """The layers of a feed-forward network for `optix_bus.agents.acting`, or None where it is something else.

    It is one if it is a ``flax.linen.Sequential`` of plain ``Dense`` layers in float32 and activations of
    ``jax.nn``, perhaps behind a `OneHot` or a `Flatten`, or behind `ImageInput`, plain ``Conv`` layers
    without padding and `ImageFlatten`.

    Args:
        module: a layer or a ``Sequential``, perhaps of others.
        prefix: of its weights' names, e.g. ``actor``.
    """
    layers: list[dict[str, Any]] = []
    if type(module) is not nn.Sequential or not _collect(module, prefix, layers):
        return None
    # Other images have their channels behind, where NumPy has them in front.
    of_images = is_convolutional(layers) and layers[0]["op"] == "image"
    return layers if of_images or is_feed_forward(layers) else None


def layer_sizes(module: nn.Module) -> list[int]:
    """Units, and sizes of filters, of a network that `describe` knows, in the order of their use."""
    if isinstance(module, nn.Dense):
        return [module.features]
    if isinstance(module, nn.Conv):
        return [module.features, *_pair(module.kernel_size)]
    below = module.layers if isinstance(module, nn.Sequential) else ()
    return [size for layer in below if isinstance(layer, nn.Module) for size in layer_sizes(layer)]


def _collect(module: nn.Sequential, prefix: str, layers: list[dict[str, Any]]) -> bool:
    seen: list[Any] = []
    for number, layer in enumerate(module.layers):
        name = f"{prefix}.{number}"
        if isinstance(layer, nn.Module):
            if any(layer is other for other in seen):
                return False  # a layer's second use has no weights of its own
            seen.append(layer)
        if type(layer) is nn.Sequential:
            if not _collect(layer, name, layers):
                return False
            continue
        entry = _layer(layer, name)
        if entry is None:
            return False
        layers.append(entry)
    return True


def _layer(layer: Any, name: str) -> dict[str, Any] | None:
    if type(layer) is nn.Dense:
        plain = layer.dot_general is None and layer.dot_general_cls is None and layer.name is None
        if not plain or layer.param_dtype != jnp.float32 or layer.dtype not in (None, jnp.float32):
            return None
        return {
            "op": "linear",
            "weight": f"{name}.weight",
            "bias": f"{name}.bias" if layer.use_bias else None,
        }
    if type(layer) is nn.Conv:
        return _convolution(layer, name)
    if type(layer) is ImageInput:
        return {"op": "image", "channels_last": layer.channels_last}
    if type(layer) is ImageFlatten:
        return {"op": "flatten"}
    if type(layer) is OneHot:
        return {"op": "one_hot", "n": layer.n}
    if type(layer) is Flatten:
        return {"op": "flatten"}
    return next((dict(entry) for function, entry in _ACTIVATIONS if layer is function), None)


def _convolution(layer: nn.Conv, name: str) -> dict[str, Any] | None:
    sizes = [layer.kernel_size, layer.strides, layer.input_dilation, layer.kernel_dilation]
    size, stride, *dilations = (_pair(1 if each is None else each) for each in sizes)
    plain = layer.padding == "VALID" and layer.feature_group_count == 1 and layer.mask is None
    flat = len(size) == 2 and dilations == [[1, 1]] * 2 and layer.name is None
    single = layer.param_dtype == jnp.float32 and layer.dtype in (None, jnp.float32)
    known = layer.conv_general_dilated in (None, convolve) and layer.conv_general_dilated_cls is None
    if not (plain and flat and single and known):
        return None
    bias = f"{name}.bias" if layer.use_bias else None
    return {"op": "conv", "weight": f"{name}.weight", "bias": bias, "stride": stride}


def _pair(size: int | Sequence[int]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def _name(prefix: str, path: tuple[str, ...], plain: bool) -> str:
    if not plain:
        return ".".join((prefix, *path))
    steps = [step.removeprefix("layers_") for step in path[:-1]]
    return ".".join((prefix, *steps, "weight" if path[-1] == "kernel" else path[-1]))


def _leaves(weights: Weights) -> dict[tuple[str, ...], Any]:
    return dict(flatten_dict(weights))  # type: ignore[no-untyped-call]
