from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from optix_bus.bus.ledger import (
    ACCEPTED,
    DUPLICATE,
    FENCED,
    FUTURE_CAUSE,
    GAP,
    REPEATED,
    UNANNOUNCED,
    Ledger,
)
from optix_bus.bus.record import Record


def greeted(incarnation: int = 1) -> Ledger:
    ledger = Ledger()
    assert ledger.hello("n", incarnation, "s", 0) == ACCEPTED
    return ledger


def test_nothing_is_taken_before_hello() -> None:
    assert Ledger().accept("n", 1, 0, 0, 0, head=0) == UNANNOUNCED


def test_only_the_expected_number_is_taken() -> None:
    ledger = greeted()
    assert ledger.accept("n", 1, 1, 0, 1, head=9) == GAP
    assert ledger.accept("n", 1, 0, 0, 0, head=9) == ACCEPTED
    assert ledger.accept("n", 1, 0, 0, 0, head=9) == DUPLICATE
    assert ledger.accept("n", 1, 1, 0, 1, head=9) == ACCEPTED


def test_a_lost_event_that_is_sent_again_is_no_duplicate_although_its_successor_came() -> None:
    """The reason for numbers: by identity alone, (5, 0) behind (5, 1) would look like a repetition."""
    ledger = greeted()
    assert ledger.accept("n", 1, 1, 5, 1, head=9) == GAP
    assert ledger.accept("n", 1, 0, 5, 0, head=9) == ACCEPTED
    assert ledger.accept("n", 1, 1, 5, 1, head=9) == ACCEPTED


def test_an_identity_that_a_restarted_node_emits_again_uses_its_number_up() -> None:
    ledger = greeted()
    ledger.accept("n", 1, 0, 5, 0, head=9)
    assert ledger.hello("n", 2, "t", 0) == ACCEPTED
    assert ledger.accept("n", 2, 0, 5, 0, head=9) == REPEATED
    assert ledger.accept("n", 2, 1, 5, 1, head=9) == ACCEPTED


def test_roots_are_counted_apart_from_effects() -> None:
    ledger = greeted()
    assert ledger.accept("n", 1, 0, 7, 0, head=9) == ACCEPTED
    assert ledger.accept("n", 1, 1, 0, 0, head=9) == ACCEPTED
    assert ledger.accept("n", 1, 2, 0, 0, head=9) == REPEATED
    assert ledger.accept("n", 1, 3, 7, 1, head=9) == ACCEPTED


def test_a_newer_incarnation_fences_the_older_one() -> None:
    ledger = greeted(1)
    assert ledger.hello("n", 2, "t", 0) == ACCEPTED
    assert ledger.accept("n", 1, 0, 0, 0, head=9) == FENCED
    assert ledger.hello("n", 1, "s", 0) == "older_incarnation"


def test_the_same_incarnation_in_another_process_is_refused_and_in_the_same_one_welcome() -> None:
    ledger = greeted(1)
    assert ledger.hello("n", 1, "other", 0) == "another_process"
    assert ledger.hello("n", 1, "s", 0) == ACCEPTED


def test_a_second_hello_never_takes_back_what_was_taken() -> None:
    ledger = greeted()
    ledger.accept("n", 1, 0, 0, 0, head=9)
    ledger.hello("n", 1, "s", 0)
    assert ledger.accept("n", 1, 0, 0, 0, head=9) == DUPLICATE


def test_a_cause_that_has_not_happened_is_refused() -> None:
    """It would be the largest identity for ever and shut the node out."""
    ledger = greeted()
    assert ledger.accept("n", 1, 0, 10, 0, head=9) == FUTURE_CAUSE
    assert ledger.accept("n", 1, 1, 9, 0, head=9) == ACCEPTED


def test_the_beacon_speaks_of_the_journal_not_of_what_is_on_its_way() -> None:
    ledger = greeted()
    ledger.accept("n", 1, 0, 0, 0, head=9)
    assert ledger.nodes["n"].journaled == 0
    ledger.settle()
    assert ledger.nodes["n"].journaled == 1


def test_a_restarted_hub_still_fences_and_dedupes_but_waits_for_hello() -> None:
    ledger = greeted(3)
    ledger.accept("n", 3, 0, 5, 2, head=9)
    again = Ledger()
    again.load(ledger.dump().items())
    assert again.accept("n", 3, 1, 5, 3, head=9) == UNANNOUNCED
    assert again.hello("n", 2, "s", 0) == "older_incarnation"
    assert again.hello("n", 3, "s", 0) == ACCEPTED
    assert again.accept("n", 3, 0, 5, 2, head=9) == REPEATED
    assert again.accept("n", 3, 1, 5, 3, head=9) == ACCEPTED


def test_what_is_read_back_equals_what_was_kept() -> None:
    ledger = greeted()
    ledger.accept("n", 1, 0, 0, 4, head=9)
    ledger.accept("n", 1, 1, 6, 1, head=9)
    again = Ledger()
    again.note_hello("n", 1, "s")
    again.note_record(Record(1, 1, "n", 1, 0, 4, "T", b""))
    again.note_record(Record(2, 2, "n", 1, 6, 1, "T", b""))
    assert again.dump() == ledger.dump()


@given(st.lists(st.integers(0, 29), max_size=300), st.integers(1, 30))
def test_any_mixture_of_losses_and_repetitions_is_taken_once_and_in_order(
    noise: list[int], count: int
) -> None:
    """Whatever arrives in between, resending from the first missing one on completes the sequence."""
    ledger = greeted()
    taken: list[int] = []

    def arrive(number: int) -> None:
        if number < count and ledger.accept("n", 1, number, 0, number, head=0) == ACCEPTED:
            taken.append(number)

    for number in noise:
        arrive(number)
    for number in range(count):
        arrive(number)
    assert taken == list(range(count))
