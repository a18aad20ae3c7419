from __future__ import annotations

import pytest

from optix_bus.optimizers.fading import Fading, least, size


def test_a_size_is_halved_by_eight_experiments_and_goes_no_lower_than_its_end():
    wide = Fading(0.8, 0.1)
    assert wide.after(0, 1) == pytest.approx(0.8)
    assert wide.after(8, 1) == pytest.approx(0.4)
    assert [wide.after(k, 1) for k in range(100)] == sorted(
        (wide.after(k, 1) for k in range(100)), reverse=True
    )
    assert wide.after(10_000, 1) == 0.1


def test_parameters_share_it_so_that_all_together_lie_as_far_from_the_centre():
    wide = Fading(0.8, 0.1)
    assert 4 * wide.after(0, 4) ** 2 == pytest.approx(wide.after(0, 1) ** 2)
    assert wide.after(0, 1000) == 0.1


def test_a_plain_number_neither_fades_nor_is_shared():
    assert size(0.3, 50, 7) == 0.3
    assert size(Fading(0.8, 0.1), 8, 1) == pytest.approx(0.4)
    assert (least(0.3), least(Fading(0.8, 0.1))) == (0.3, 0.1)
