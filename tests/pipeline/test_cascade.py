"""pipeline.cascade"""

import numpy as np
import pytest

from pipeline.cascade import VERDICTS, verdicts
from pipeline.settings import DedupSettings


@pytest.mark.parametrize(
    ("pdq", "quality", "is_same", "verdict"),
    [
        (31, 100, False, "overlap"),
        (32, 100, False, "candidate"),
        (90, 50, False, "candidate"),
        (91, 100, False, "unrelated"),
        (91, 49, False, "undecidable"),
        (0, 49, False, "undecidable"),
        (0, 0, True, "overlap"),
    ],
)
def test_pdq_sorts_what_phash_proposes_unless_the_image_is_flat(
    pdq: int, quality: int, is_same: bool, verdict: str
) -> None:
    rows = [np.array([value]) for value in (pdq, quality, is_same)]
    assert VERDICTS[verdicts(*rows, DedupSettings())[0]] == verdict
