"""What every update in a graph needs: kinds of tensors, and long arrays in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

Array = np.ndarray[Any, Any]

# Rows of one forward pass outside the update: bounds the memory that a long window of images takes.
_CHUNK = 16384


def rows_of(array: Array) -> Any:
    """The kind of tensors that an array is one of, whatever the number of its rows."""
    return tf.TensorSpec([None, *array.shape[1:]], array.dtype)


def chunks(array: Array) -> list[Array]:
    """The rows of an array in parts of bounded length."""
    return [array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK)]
