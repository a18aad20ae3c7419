"""The bytes of a blob: the safetensors layout, written without copying and read without copying.

An eight-byte length, a JSON header padded to eight bytes, then the arrays, largest items first, so that
every array is aligned. Values of the metadata are JSON texts, because safetensors only knows strings there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import xxhash

from optix_bus.errors import BlobError
from optix_bus.types import NamedArrays

#: In the order of the stock writer, which stores the last of these first: its bytes and ours are the same.
_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
}
_DTYPES = {name: np.dtype(dtype) for dtype, name in _NAMES.items()}
#: By dtype, not by its name, which NumPy makes anew at every call.
_STORED = {dtype: name for name, dtype in _DTYPES.items()}
_RANK = {dtype: rank for rank, dtype in enumerate(_STORED)}
# Made once: `json.dumps` makes an encoder at each call with arguments. Values may be NaN, which is JSON for
# Python only; the header around them never is, and msgspec writes the same text in a tenth of the time.
_any_value = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_plain_json = msgspec.json.Decoder().decode
_header_text = msgspec.json.Encoder().encode
_MAX_HEADER_BYTES = 16 * 1024 * 1024


def parts(content: NamedArrays) -> list[memoryview]:
    """The stored form as pieces: the header, then the memory of the arrays themselves.

    Raises:
        BlobError: an array or the metadata cannot be stored; the message says which.
    """
    arrays = {name: _storable(name, array) for name, array in content.arrays.items()}
    order = sorted(arrays, key=lambda name: (-_RANK[arrays[name].dtype], name))
    header: dict[str, Any] = {}
    if content.metadata:
        try:
            header["__metadata__"] = {
                str(key): str(value) if type(value) is int else _any_value(value)
                for key, value in sorted(content.metadata.items())
            }
        except (TypeError, ValueError) as error:
            raise BlobError(f"the metadata of a blob holds what JSON cannot say: {error}") from None
    offset = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _STORED[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = _header_text(header)
    text += b" " * (-len(text) % 8)
    pieces = [memoryview(len(text).to_bytes(8, "little") + text)]
    pieces += [arrays[name].reshape(-1).view(np.uint8).data for name in order if arrays[name].nbytes]
    return pieces


def _storable(name: str, array: Any) -> np.ndarray[Any, Any]:
    found = np.asarray(array)
    if found.dtype.byteorder == ">":
        found = found.astype(found.dtype.newbyteorder("<"))
    if found.dtype not in _STORED:
        raise BlobError(
            f"array {name!r} has dtype {found.dtype}, expected one of {', '.join(_NAMES)}: convert it first"
        )
    if name == "__metadata__" or not name:
        raise BlobError(f"an array cannot be called {name!r}")
    return np.ascontiguousarray(found).reshape(found.shape)


def size(pieces: Iterable[memoryview]) -> int:
    """Bytes of the stored form."""
    return sum(piece.nbytes for piece in pieces)


def checksum(pieces: Iterable[memoryview]) -> str:
    """xxh3-128 of the stored form, 32 hex digits."""
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def parse(buffer: Any, name: str) -> NamedArrays:
    """The arrays in a buffer, as read-only views of it.

    Raises:
        BlobError: the bytes are no blob.
    """
    view = memoryview(buffer).toreadonly().cast("B")
    try:
        length = int.from_bytes(view[:8], "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, len(view) - 8):
            raise ValueError(f"a header of {length} bytes")
        header = _plain_json(view[8 : 8 + length])
        metadata = {key: _value(text) for key, text in header.pop("__metadata__", {}).items()}
        data = view[8 + length :]
        arrays = {key: _array(data, entry) for key, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, msgspec.DecodeError) as error:
        raise BlobError(f"blob {name} is damaged: {type(error).__name__}: {error}") from None
    return NamedArrays(arrays, metadata)


def _value(text: str) -> Any:
    try:
        return _plain_json(text)
    except msgspec.DecodeError:  # NaN, Infinity, half a surrogate: JSON for Python only
        return json.loads(text)


def _array(data: memoryview, entry: dict[str, Any]) -> np.ndarray[Any, Any]:
    """A view of some of the bytes, read-only because they are."""
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(data):
        raise ValueError(f"an array at bytes {start} to {end} of {len(data)}")
    shape = tuple(entry["shape"])
    array: np.ndarray[Any, Any] = np.ndarray(shape, _DTYPES[entry["dtype"]], data, start)
    # -1 is to NumPy whatever the rest of the bytes holds.
    if array.nbytes != end - start or array.shape != shape:
        raise ValueError(f"an array of {array.nbytes} bytes and shape {shape} at bytes {start} to {end}")
    return array
