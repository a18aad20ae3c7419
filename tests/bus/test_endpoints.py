from __future__ import annotations

from pathlib import Path

import pytest

from optix_bus.bus.endpoints import HubEndpoints, make_private
from optix_bus.errors import ConfigurationError


def test_an_address_that_others_can_reach_is_refused_without_keys() -> None:
    good = vars(HubEndpoints.in_directory("/tmp/x"))
    for name in good:
        with pytest.raises(ConfigurationError, match=rf"{name} is 'tcp://.*needs CURVE keys"):
            HubEndpoints(**{**good, name: "tcp://127.0.0.1:5555"})


def test_a_path_that_does_not_fit_a_socket_address_is_refused_before_the_system_does() -> None:
    HubEndpoints.in_directory("/" + "x" * (107 - len("//side_out")))
    with pytest.raises(ConfigurationError, match="addresses of 108 bytes, a socket may have 107"):
        HubEndpoints.in_directory("/" + "x" * (108 - len("//side_out")))


def test_the_directory_is_made_private(tmp_path: Path) -> None:
    path = make_private(tmp_path / "a" / "b")
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_private(tmp_path / "s")
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(ConfigurationError, match=r"belongs to user .*, expected 12345"):
        make_private(tmp_path / "s")
