"""In which order layers may stand that NumPy runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from optix_bus.agents.acting.activations import NAMES

_ACTIVATION = "|".join(sorted(NAMES))
_DENSE = rf"linear (?:(?:linear|{_ACTIVATION}) )*(?:append_constant )?"
_FEED_FORWARD = re.compile(rf"(?:(?:one_hot|flatten) )?{_DENSE}")
_CONVOLUTIONS = rf"(?:image )?(?:(?:{_ACTIVATION}) )*conv (?:(?:conv|{_ACTIVATION}) )*flatten "
_CONVOLUTIONAL = re.compile(rf"{_CONVOLUTIONS}{_DENSE}")
_CONVOLUTIONAL_FRONT = re.compile(rf"{_CONVOLUTIONS}(?:{_DENSE})?")


def is_feed_forward(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `optix_bus.agents.acting.mlp.Forward` runs layers in this order."""
    return _FEED_FORWARD.fullmatch(_names(layers)) is not None


def is_convolutional(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `optix_bus.agents.acting.images.ImageForward` runs layers in this order."""
    return _CONVOLUTIONAL.fullmatch(_names(layers)) is not None


def is_convolutional_front(layers: Sequence[Mapping[str, Any]]) -> bool:
    """The same, where others stand behind: no dense layer has to follow ``flatten``."""
    return _CONVOLUTIONAL_FRONT.fullmatch(_names(layers)) is not None


def _names(layers: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{layer['op']} " for layer in layers)
