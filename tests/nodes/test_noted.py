"""What nodes merely take note of."""

from __future__ import annotations

import pytest

from optix_bus.runtime.topology_classes import known_node_classes


@pytest.mark.parametrize("path", sorted(known_node_classes()))
def test_a_node_takes_note_only_of_what_it_handles_and_acts_on_something(path: str) -> None:
    cls = known_node_classes()[path]
    assert set(cls.noted) <= set(cls.accepts())
    assert set(cls.accepts()) - set(cls.noted)
