"""A thousand damages: each is found, what is before it stays, and nothing that can be read is lost."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from mcap.reader import make_reader

from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_repair import repair_journal
from optix_bus.bus.journal_verify import verify_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record
from tests.bus.journals import copy, damage, files, readable, write

#: (events, bytes of a segment, closed in order).
SHAPES = ((20, 2**30, True), (20, 2**30, False), (40, 2000, True), (40, 2000, False))
DAMAGES_EACH = 250


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_every_damage_is_found_and_repaired_as_far_as_can_be(
    shape: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, sync, lambda descriptor: None)
    count, segment_bytes, orderly = SHAPES[shape]
    records = write(tmp_path / "whole", count, segment_bytes=segment_bytes, orderly=orderly)
    assert verify_journal(tmp_path / "whole").is_clean
    for number in range(DAMAGES_EACH):
        chance = random.Random(number * len(SHAPES) + shape)
        folder = copy(tmp_path / "whole", tmp_path / "damaged")
        kinds = [damage(chance.choice(files(folder)), chance) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
        said = f"damage {number} of {SHAPES[shape]}: {', '.join(kinds)}"
        if verify_journal(folder).is_clean:
            assert_harmless(folder, records, orderly, said)
        assert_repaired(folder, tmp_path / "repaired", records, said)


def assert_harmless(folder: Path, records: list[Record], orderly: bool, said: str) -> None:
    """What is no damage is the journal of a hub that was killed earlier, or gives the same events."""
    found = list(read_journal(folder))
    assert found == records[: len(found)], said
    assert found == records or not orderly, said


def assert_repaired(folder: Path, target: Path, records: list[Record], said: str) -> None:
    report, can_be_read = verify_journal(folder), readable(folder, records)
    repair = repair_journal(folder, target)
    assert verify_journal(target).is_clean, said
    kept = list(read_journal(target))
    assert kept == records[: len(kept)], said
    assert (repair.kept.first, repair.kept.last) == (1, len(kept)), said
    first, last = report.usable
    assert first != 1 or len(kept) >= last, f"{said}: readers got {last} events, the repaired has {len(kept)}"
    saved = {record.seq for record in kept}
    for each in repair.salvaged:
        assert verify_journal(each.path).is_clean, said
        for record in read_journal(each.path, each.first):
            assert record == records[record.seq - 1], said
            saved.add(record.seq)
    assert can_be_read <= saved, f"{said}: {sorted(can_be_read - saved)} can be read, and were lost"
    lost = {seq for start, end in repair.lost for seq in range(start, end + 1)}
    assert not lost & saved, said
    assert lost | saved >= set(range(1, max(saved, default=0) + 1)), said
    for path in files(target):
        with path.open("rb") as stream:
            for _ in make_reader(stream, validate_crcs=True).iter_messages():
                pass
    hub = JournalWriter(target, Ledger())
    assert (hub.head, hub.torn_bytes) == (len(kept), 0), said
    hub.close()
    for made in (target, target.with_name("repaired.salvage")):
        shutil.rmtree(made, ignore_errors=True)
