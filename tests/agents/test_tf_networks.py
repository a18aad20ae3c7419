"""Keras models as descriptions that NumPy acts from."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from optix_bus.agents.acting.images import ImageForward
from optix_bus.agents.acting.mlp import Forward
from optix_bus.agents.tensorflow.images import ImageFlatten, ImageInput
from optix_bus.agents.tensorflow.networks import (
    AppendConstant,
    OneHot,
    build_mlp,
    describe,
    held,
    output_size,
)

L = keras.layers


def _functional():
    x = keras.Input(shape=(4,))
    return keras.Model(x, L.Dense(3)(L.Activation("relu")(L.Dense(8)(x))))


def _nested():
    return keras.Sequential([keras.Input(shape=(4,)), keras.Sequential([L.Dense(8, "elu")]), L.Dense(3)])


def _images(*front):
    return keras.Sequential([keras.Input(shape=(7, 6, 5)), *front, L.Dense(8, "relu"), L.Dense(3)])


KNOWN = {
    "tanh": lambda: keras.Sequential([keras.Input(shape=(4,)), L.Dense(8, "tanh"), L.Dense(3)]),
    "chain": _functional,
    "nested": _nested,
    "activations": lambda: keras.Sequential(
        [keras.Input(shape=(4,)), L.Dense(8, "gelu"), L.Dense(8, "silu"), L.Dense(8, "sigmoid"),
         L.Dense(8), L.LeakyReLU(0.3), L.Dense(8, "leaky_relu"), L.Dense(8), L.ReLU(), L.Dense(8), L.ELU(0.7),
         L.Dense(3, use_bias=False)]
    ),
    "flatten": lambda: keras.Sequential([keras.Input(shape=(2, 2)), L.Flatten(), L.Dense(3)]),
    "constant": lambda: keras.Sequential([keras.Input(shape=(4,)), L.Dense(2), AppendConstant([0.5, -1.0])]),
    "images": lambda: _images(ImageInput(True), L.Conv2D(3, (3, 2), (2, 1), use_bias=False), L.ReLU(),
                              L.Conv2D(2, 2, activation="tanh"), ImageFlatten()),
    "channels first": lambda: _images(ImageInput(False), L.Conv2D(3, 2), ImageFlatten()),
}  # fmt: skip


@pytest.mark.parametrize("make", KNOWN.values(), ids=KNOWN)
def test_numpy_computes_what_keras_computes(make):
    model = make()
    for each in held(model, "actor"):
        each.assign(np.random.default_rng(1).standard_normal(each.shape).astype(np.float32))
    layers = describe(model, "actor")
    kind = ImageForward if layers[0]["op"] == "image" else Forward
    forward = kind(layers, {each.name: each.array() for each in held(model, "actor")})
    x = np.random.default_rng(0).standard_normal((5, *model.input_shape[1:])).astype(np.float32)
    found, count = forward(x)
    np.testing.assert_allclose(found[:count], model(x).numpy(), rtol=1e-5, atol=1e-5)
    assert output_size(model) == found.shape[1]


def _residual():
    x = keras.Input(shape=(4,))
    return keras.Model(x, L.Dense(3)(x + L.Dense(4)(x)))


def _shared():
    x, layer = keras.Input(shape=(4,)), L.Dense(4, "tanh")
    return keras.Model(x, layer(layer(x)))


class _Own(keras.Sequential):
    """May compute anything."""


UNKNOWN = {
    "residual": _residual,
    "shared": _shared,
    "subclass": lambda: _Own([keras.Input(shape=(4,)), L.Dense(3)]),
    "norm": lambda: keras.Sequential([keras.Input(shape=(4,)), L.LayerNormalization(), L.Dense(3)]),
    "softmax": lambda: keras.Sequential([keras.Input(shape=(4,)), L.Dense(3, "softmax")]),
    "own activation": lambda: keras.Sequential([keras.Input(shape=(4,)), L.Dense(3, lambda x: x + 1)]),
    "capped": lambda: keras.Sequential([keras.Input(shape=(4,)), L.Dense(4), L.ReLU(6.0), L.Dense(3)]),
    "half": lambda: keras.Sequential([keras.Input(shape=(4,)), L.Dense(3, dtype="float16")]),
    "sequences": lambda: keras.Sequential([keras.Input(shape=(2, 4)), L.Dense(3)]),
    "other flatten": lambda: _images(ImageInput(True), L.Conv2D(3, 2), L.Flatten()),
    "numbers, not bytes": lambda: _images(L.Conv2D(3, 2), ImageFlatten()),
    "no convolution": lambda: _images(ImageFlatten()),
    "padding": lambda: _images(ImageInput(True), L.Conv2D(3, 2, padding="same"), ImageFlatten()),
    "dilation": lambda: _images(ImageInput(True), L.Conv2D(3, 2, dilation_rate=2), ImageFlatten()),
    "groups": lambda: _images(ImageInput(True), L.Conv2D(5, 2, groups=5), ImageFlatten()),
    "pooling": lambda: _images(ImageInput(True), L.Conv2D(3, 2), L.MaxPooling2D(), ImageFlatten()),
    "constant first": lambda: keras.Sequential([keras.Input(shape=(4,)), AppendConstant([1.0]), L.Dense(3)]),
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_what_numpy_cannot_run_has_no_description(make):
    model = make()
    assert describe(model, "actor") is None
    assert [each.variable for each in held(model, "actor")] == model.variables
    assert len({each.name for each in held(model, "actor")}) == len(model.variables)


def test_arrays_have_the_names_and_the_shape_that_torch_gives_them():
    model = build_mlp(5, (8, 7), 3, output_gain=0.01, rng=np.random.default_rng(0), one_hot=True)
    shapes = {each.name: each.array().shape for each in held(model, "actor")}
    assert shapes == {
        "actor.1.weight": (8, 5), "actor.1.bias": (8,), "actor.3.weight": (7, 8), "actor.3.bias": (7,),
        "actor.5.weight": (3, 7), "actor.5.bias": (3,),
    }  # fmt: skip
    np.testing.assert_array_equal(OneHot(3)(tf.constant([[2.0], [0.0]])).numpy(), [[0, 0, 1], [1, 0, 0]])


def test_weights_are_orthogonal_with_the_usual_gains():
    model = build_mlp(4, (32, 32), 3, output_gain=0.01, rng=np.random.default_rng(0))
    dense = [layer for layer in model.layers if isinstance(layer, L.Dense)]
    for layer, gain in zip(dense, (2**0.5, 2**0.5, 0.01), strict=True):
        np.testing.assert_allclose(np.linalg.svd(layer.kernel.numpy())[1], gain, rtol=1e-4)
        assert not layer.bias.numpy().any()


def test_our_layers_can_be_cloned():
    layers = [keras.Input(shape=(4,)), L.Dense(2), AppendConstant([0.5, 0.25])]
    clone = keras.models.clone_model(keras.Sequential(layers))
    np.testing.assert_array_equal(clone(np.zeros((2, 4))).numpy()[:, 2:], [[0.5, 0.25]] * 2)
