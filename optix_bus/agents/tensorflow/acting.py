"""Acting from a live model: in NumPy where the network is known, in TensorFlow where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import xxhash

from optix_bus.agents.acting.live import LiveActing
from optix_bus.agents.tensorflow.networks import describe, held, read
from optix_bus.rl import ObsNormalizer

Array = np.ndarray[Any, Any]


class TensorFlowForward:
    """Outputs ``[B, out]`` of a model that NumPy cannot run, with given weights or those of the moment."""

    def __init__(self, call: Any, normalizer: ObsNormalizer | None, weights: list[Any] | None) -> None:
        self._call = call
        self._normalizer = normalizer
        self._weights = weights

    def __call__(self, observations: Array) -> tuple[Array, int]:
        """Outputs, a fresh array, and their number of rows."""
        scaled = observations if self._normalizer is None else self._normalizer.normalize(observations)
        outputs = np.array(self._call(tf.constant(np.asarray(scaled, np.float32)), self._weights), np.float32)
        return outputs, len(outputs)


class TensorFlowActing(LiveActing):
    """Acting from a live model.

    Args:
        actor: maps observations to what the head makes actions of, e.g. logits.
        normalizer: of observations.
        rng: the acting stream.
        head, prefix: see `LiveActing`.
    """

    def __init__(
        self,
        actor: Any,
        normalizer: ObsNormalizer | None,
        rng: np.random.Generator,
        head: Callable[[], Mapping[str, Any]],
        prefix: str = "actor",
    ) -> None:
        super().__init__(normalizer, rng, head, prefix)
        self.forget(actor)

    def forget(self, actor: Any) -> None:
        """Look at this actor anew before the next action."""
        if actor is not getattr(self, "_actor", None):
            self._calls: dict[int, Any] = {}
        self._actor = actor
        self._layers = describe(actor, self._prefix)
        # Asking Keras for them takes longer than reading them.
        self._handles = [(v.value.handle, v.value.dtype) for v in actor.variables]
        self._policy = None

    def _arrays(self) -> dict[str, Array]:
        return {each.name: each.array() for each in held(self._actor, self._prefix)}

    def _forward(self, normalizer: ObsNormalizer | None, *, share: bool) -> TensorFlowForward:
        weights = None if share else [tf.identity(read(v)) for v in self._actor.variables]
        return TensorFlowForward(self._run, normalizer, weights)

    def _run(self, x: Any, weights: list[Any] | None) -> Any:
        # Traced once for each shape of an observation, whatever the number of rows.
        spec = tf.TensorSpec([None, *x.shape[1:]], x.dtype)
        if weights is None:
            weights = [read(v) for v in self._actor.variables]
        key = hash(spec)
        if key not in self._calls:
            specs = [tf.TensorSpec(w.shape, w.dtype) for w in weights]
            self._calls[key] = tf.function(self._with_weights, input_signature=[spec, specs])
        return self._calls[key](x, weights)

    def _with_weights(self, x: Any, weights: list[Any]) -> Any:
        by_variable = {id(v): w for v, w in zip(self._actor.variables, weights, strict=True)}
        trainable = [by_variable[id(v)] for v in self._actor.trainable_variables]
        rest = [by_variable[id(v)] for v in self._actor.non_trainable_variables]
        outputs, _ = self._actor.stateless_call(trainable, rest, x, training=False)
        # A model may give its values beside what it acts with.
        return outputs[0] if isinstance(outputs, tuple | list) else outputs

    def _weights_mark(self) -> tuple[Any, ...]:
        """The weights themselves, hashed: TensorFlow does not count changes."""
        tensors = [tf.raw_ops.ReadVariableOp(resource=handle, dtype=kind) for handle, kind in self._handles]
        return tuple(xxhash.xxh3_64_intdigest(memoryview(tensor)) for tensor in tensors)
