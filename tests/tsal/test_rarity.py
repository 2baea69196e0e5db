from __future__ import annotations

import numpy as np
import pytest

from ml_backend.tsal.rarity import positive_weights


def test_negative_over_positive_frames_within_bounds():
    #           half    one of four  none   all     one of ten
    labels = np.zeros((20, 5), np.uint8)
    labels[:10, 0] = 1
    labels[:5, 1] = 1
    labels[:, 3] = 1
    labels[:2, 4] = 1
    # 10 / 10; 15 / 5; nobody has it; 0 / 20, frequent; 18 / 2 = 9, at most 5
    assert positive_weights(labels).tolist() == [1.0, 3.0, 1.0, 1.0, 5.0]
    assert positive_weights(labels, largest=20.0)[4] == 9.0


def test_without_frames_nothing_is_rare_and_labels_are_checked():
    assert positive_weights(np.zeros((0, 3), np.uint8)).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="0 and 1 only"):
        positive_weights(np.full((2, 3), 2, np.uint8))
