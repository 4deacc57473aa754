from __future__ import annotations

import numpy as np

from limner.report.trials import front, trade_plot


def test_the_front_is_what_nothing_beats() -> None:
    costs = np.array([[1, 5], [2, 3], [2, 4], [3, 3], [4, 1], [0, 6.0]])
    np.testing.assert_array_equal(front(costs), [[0, 6], [1, 5], [2, 3], [4, 1]])


def test_decoders_are_told_apart() -> None:
    document = trade_plot([("mean", 1.0, 0.2), ("mean", 0.5, 0.9), ("mutex", 2.0, 0.1)])
    assert document.lstrip().startswith("<?xml")
    for words in ("mean", "mutex", "splits, bits", "mergers, bits"):
        assert words in document
