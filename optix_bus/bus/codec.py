"""From typed events to bytes and back; what does not fit is refused with a reason that can be counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from optix_bus.bus.wire import MAX_BODY_BYTES, NAME
from optix_bus.errors import CodecError, ConfigurationError

#: The words under which refused bytes are counted.
UNKNOWN_TYPE = "unknown_type"
NOT_MSGPACK = "not_msgpack"
WRONG_FIELDS = "wrong_fields"
TOO_LARGE = "too_large"
TOO_DEEP = "too_deep"


class Codec:
    """Encodes and decodes a closed set of event types, each a `msgspec.Struct` known by its class name.

    A body is one msgpack map by field name. Fields that a newer sender has added are ignored, fields that an
    older one does not send take their defaults; anything else that does not fit is refused.

    Raises:
        ConfigurationError: two types share a name, or a name cannot travel.
    """

    def __init__(self, types: Iterable[type[msgspec.Struct]]) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoders: dict[str, Any] = {}
        for kind in types:
            name = kind.__name__
            if name in self._decoders:
                raise ConfigurationError(f"two event types are called {name}: the name travels, rename one")
            if not NAME.fullmatch(name):
                raise ConfigurationError(
                    f"event type {name!r} cannot travel: expected at most 64 of A-Z a-z 0-9 _ . : -"
                )
            self._decoders[name] = msgspec.msgpack.Decoder(kind).decode

    @property
    def names(self) -> frozenset[str]:
        """The type names it knows."""
        return frozenset(self._decoders)

    def encode(self, event: msgspec.Struct) -> tuple[str, bytes]:
        """(type name, body) of an event.

        Raises:
            CodecError: the type is not in the set, or the body is over 64 KiB.
        """
        name = type(event).__name__
        if name not in self._decoders:
            raise CodecError(f"{name} is not in the vocabulary of this codec", UNKNOWN_TYPE)
        try:
            body = self._encode(event)
        except (TypeError, ValueError, OverflowError) as error:
            raise CodecError(f"{name} cannot be encoded: {error}", WRONG_FIELDS) from None
        except RecursionError:
            raise CodecError(f"{name} is nested too deeply", TOO_DEEP) from None
        if len(body) > MAX_BODY_BYTES:
            raise CodecError(
                f"{name} takes {len(body)} bytes, an event may take {MAX_BODY_BYTES}: put arrays into a blob",
                TOO_LARGE,
            )
        return name, body

    def decode(self, name: str, body: bytes) -> Any:
        """The event behind a body.

        Raises:
            CodecError: for every kind of hostile bytes; ``reason`` says which.
        """
        decode = self._decoders.get(name)
        if decode is None:
            raise CodecError(f"{name[:64]!r} is no event type of the vocabulary", UNKNOWN_TYPE)
        if len(body) > MAX_BODY_BYTES:
            raise CodecError(f"{name} of {len(body)} bytes, an event may have {MAX_BODY_BYTES}", TOO_LARGE)
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            raise CodecError(f"{name} does not fit its fields: {error}", WRONG_FIELDS) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CodecError(f"{name} is no msgpack: {error}", NOT_MSGPACK) from None
        except RecursionError:
            raise CodecError(f"{name} is nested too deeply", TOO_DEEP) from None
