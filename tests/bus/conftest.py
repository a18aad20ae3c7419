from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optix_bus.bus.link import Link
from tests.bus.harness import HubThread, RawClient


@pytest.fixture
def hub(short_path: Path) -> Iterator[HubThread]:
    thread = HubThread(short_path)
    yield thread
    thread.stop()


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Socket paths are limited; the names that pytest gives are long."""
    return tmp_path_factory.mktemp("b")


@pytest.fixture
def raw(hub: HubThread) -> Iterator[RawClient]:
    client = RawClient(hub.endpoints)
    yield client
    client.close()


@pytest.fixture
def connect(hub: HubThread) -> Iterator[Callable[..., Link]]:
    links: list[Link] = []

    def make(*arguments: Any, **options: Any) -> Link:
        link = Link(hub.endpoints, *arguments, **options)
        links.append(link)
        link.connect(20.0)
        return link

    yield make
    for link in links:
        link.close(0.0)
