from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from churn_serving.errors import DataError
from churn_serving.learning.measuring.fingerprints import Fingerprints, fingerprints, seen

if TYPE_CHECKING:
    from churn_serving.learning.dataset import Dataset

KEY = bytes(range(16))


def _ids(*texts: str) -> np.ndarray:
    return np.array(texts, dtype=object)


def test_the_rows_that_were_trained_on_are_found_and_no_others(telco: Dataset) -> None:
    rows = np.unique(telco.X, axis=0)
    known = fingerprints(rows[:3000])
    assert seen(known, rows[:3000]).all()
    assert not seen(known, rows[3000:]).any()


def test_a_customer_is_known_by_id_even_if_the_row_has_changed(telco: Dataset) -> None:
    known = fingerprints(telco.X[:3], _ids("a", "b", ""))
    later = telco.X[[0, 1, 2, 5]] + 1
    assert list(seen(known, later, _ids("a", "c", "", "b"))) == [True, False, False, True]
    assert list(seen(known, telco.X[:3], _ids("x", "y", ""))) == [True] * 3


def test_minus_zero_is_zero(telco: Dataset) -> None:
    row = telco.X[:1] * 0
    assert seen(fingerprints(-row), row).all()


def test_the_key_decides_the_hashes_and_is_drawn_anew(telco: Dataset) -> None:
    one, other = (fingerprints(telco.X[:50]) for _ in range(2))
    assert one.key != other.key
    assert not set(one.hashes) & set(other.hashes)
    assert (
        fingerprints(telco.X[:9], key=KEY).hashes == fingerprints(telco.X[8::-1], key=KEY).hashes
    ).all()


def test_a_file_keeps_them(telco: Dataset) -> None:
    known = fingerprints(telco.X[:100], key=KEY)
    content = known.to_bytes()
    assert len(content) == 16 + 8 * len(known.hashes)
    read = Fingerprints.from_bytes(content)
    assert read.key == KEY
    assert seen(read, telco.X[:100]).all()


@pytest.mark.parametrize("spoil", ["cut", "key", "order"])
def test_a_spoilt_file_is_refused(spoil: str, telco: Dataset) -> None:
    content = fingerprints(telco.X[:10], key=KEY).to_bytes()
    bad = {"cut": content[:-1], "key": content[:10], "order": content[:16] + content[:15:-1]}
    with pytest.raises(DataError, match="fingerprints"):
        Fingerprints.from_bytes(bad[spoil])
