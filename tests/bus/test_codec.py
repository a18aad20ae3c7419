from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.bus.codec import Codec
from optix_bus.bus.wire import MAX_BODY_BYTES, is_one_map
from optix_bus.errors import CodecError, ConfigurationError
from optix_bus.types import BlobRef


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    note: str = ""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    data: BlobRef
    extra: dict[str, Any] = {}


@pytest.fixture
def codec() -> Codec:
    return Codec([Counted, Stored])


def reason(codec: Codec, name: str, body: bytes) -> str:
    with pytest.raises(CodecError) as caught:
        codec.decode(name, body)
    return caught.value.reason


def test_an_event_comes_back_equal(codec: Codec) -> None:
    event = Stored(data=BlobRef("a/b-1", 3, "00", "a"), extra={"x": [1.5, None, "y"]})
    assert codec.decode(*codec.encode(event)) == event


def test_a_body_is_a_map_by_field_name_that_plain_msgpack_reads(codec: Codec) -> None:
    name, body = codec.encode(Counted(count=3))
    assert name == "Counted"
    assert msgpack.unpackb(body) == {"count": 3, "note": ""}


def test_fields_of_a_newer_sender_are_ignored_and_missing_ones_take_their_defaults(codec: Codec) -> None:
    assert codec.decode("Counted", msgpack.packb({"count": 1, "new": 2})) == Counted(count=1)


def test_every_kind_of_hostile_bytes_has_its_word(codec: Codec) -> None:
    assert reason(codec, "Evil", b"\x80") == "unknown_type"
    assert reason(codec, "Counted", b"") == "not_msgpack"
    assert reason(codec, "Counted", b"\xc1") == "not_msgpack"
    assert reason(codec, "Counted", b"\x80") == "wrong_fields"
    assert reason(codec, "Counted", msgpack.packb({"count": "1"})) == "wrong_fields"
    assert reason(codec, "Counted", msgpack.packb([1])) == "wrong_fields"
    assert reason(codec, "Counted", msgpack.packb({"count": 1}) + b"\x00") == "not_msgpack"
    assert reason(codec, "Counted", b"\x80" * (MAX_BODY_BYTES + 1)) == "too_large"
    deep = b"\x82\xa4data\xc0\xa5extra\x81\xa1x" + b"\x91" * 60_000 + b"\xc0"
    assert reason(codec, "Stored", deep) in ("too_deep", "wrong_fields")
    ref = msgpack.packb({"name": "a/b", "bytes": 1, "checksum": "", "owner": "a"})
    deep = b"\x82\xa4data" + ref + b"\xa5extra\x81\xa1x" + b"\x91" * 60_000 + b"\xc0"
    assert reason(codec, "Stored", deep) == "too_deep"


def test_what_may_not_travel_is_refused_before_it_is_sent(codec: Codec) -> None:
    with pytest.raises(CodecError, match="put arrays into a blob") as caught:
        codec.encode(Counted(count=1, note="x" * MAX_BODY_BYTES))
    assert caught.value.reason == "too_large"

    class Stranger(msgspec.Struct):
        pass

    with pytest.raises(CodecError, match="Stranger is not in the vocabulary"):
        codec.encode(Stranger())


def test_two_types_of_one_name_are_refused() -> None:
    other = msgspec.defstruct("Counted", ["x"])
    with pytest.raises(ConfigurationError, match="two event types are called Counted"):
        Codec([Counted, other])


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(["Counted", "Stored", "Nobody"]))
def test_random_bytes_are_an_event_or_a_counted_refusal(data: bytes, name: str) -> None:
    codec = Codec([Counted, Stored])
    outcome: Any
    try:
        outcome = codec.decode(name, data)
    except CodecError as error:
        outcome = error.reason
    if isinstance(outcome, str):
        assert outcome in ("unknown_type", "not_msgpack", "wrong_fields", "too_deep")
    else:
        assert codec.decode(*codec.encode(outcome)) == outcome


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_the_cheap_check_of_the_hub_accepts_exactly_the_maps(value: Any) -> None:
    assert is_one_map(msgpack.packb(value)) == isinstance(value, dict)


@given(st.dictionaries(st.text(), _VALUES, min_size=1, max_size=4), st.data())
def test_the_cheap_check_refuses_what_is_cut_off_or_has_something_behind(
    value: Any, data: st.DataObject
) -> None:
    whole = msgpack.packb(value)
    assert not is_one_map(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert not is_one_map(whole + b"\xc0")


def test_the_cheap_check_survives_a_bottomless_map() -> None:
    assert not is_one_map(b"\x81\xa1x" * 20_000 + b"\xc0")
