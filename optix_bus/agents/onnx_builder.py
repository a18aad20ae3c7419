"""Building an ONNX graph node by node. The package ``onnx`` is loaded when the first graph is begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError, MissingExtra

Array = np.ndarray[Any, Any]
#: Old enough for every runtime of the last years: operators of ONNX 1.12, file format of ONNX 1.15.
OPSET, IR_VERSION = 17, 9
_BATCH = "batch"


class Graph:
    """Nodes and constants so far; every method answers the name of what it made."""

    def __init__(self, arrays: Mapping[str, Array], observation_shape: Sequence[int] | None) -> None:
        try:
            import onnx
        except ModuleNotFoundError as error:
            raise MissingExtra("onnx", "onnx", "by export_onnx") from error
        self._onnx = onnx
        self._arrays = arrays
        self._shape = observation_shape
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """The first output of a new node."""
        made = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [made], **attributes))
        return made

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant of the graph."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def saved(self, name: str) -> Array:
        """A saved array by its name."""
        if name not in self._arrays:
            raise ConfigurationError(
                f"the policy description names the array {name!r}, found only "
                f"{', '.join(sorted(self._arrays))}"
            )
        return np.asarray(self._arrays[name])

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """An input of the graph; behind the batch, texts name axes of any length."""
        self._inputs.append(self._info(name, dtype, shape))
        return name

    def observations(self, shape: Sequence[int | str]) -> str:
        """The input of numbers; the shape is what the network tells of it."""
        return self.input("observations", "float32", shape if self._shape is None else self._shape)

    def output(self, name: str, made: str, dtype: str, shape: Sequence[int]) -> None:
        """An output of the graph, from something made before."""
        self.op("Identity", made, name=name)
        self._outputs.append(self._info(name, dtype, shape))

    def cast(self, x: str, dtype: str) -> str:
        """In another type."""
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.op("Cast", x, to=int(kind))

    def columns(self, x: str, begin: int, end: int) -> str:
        """Columns ``begin`` to ``end`` of ``[batch, n]``."""
        places = [self.constant([place], np.int64) for place in (begin, end, 1)]
        return self.op("Slice", x, *places)

    def shaped(self, x: str, shape: Sequence[int]) -> str:
        """``[batch, n]`` as ``[batch, *shape]``."""
        return x if len(shape) == 1 else self.op("Reshape", x, self.constant([-1, *shape], np.int64))

    def linear(self, x: str, weight: Array, bias: Array | None) -> str:
        """``x weight^T + bias`` of ``[out, in]`` and ``[out]``."""
        product = self.op("MatMul", x, self.constant(weight.T))
        return product if bias is None else self.op("Add", product, self.constant(bias))

    def model(self, notes: Mapping[str, str]) -> Any:
        """All of it, checked."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, "policy", self._inputs, self._outputs, self._constants)
        opset = [helper.make_operatorsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="optix-bus"
        )
        helper.set_model_props(model, dict(notes))
        self._onnx.checker.check_model(model)
        return model

    def _info(self, name: str, dtype: str, shape: Sequence[int | str]) -> Any:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, int(kind), [_BATCH, *shape])
