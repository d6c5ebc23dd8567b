"""pipeline.cascade"""

import numpy as np
import pytest

from pipeline.cascade import VERDICTS, verdicts
from pipeline.settings import DedupSettings


@pytest.mark.parametrize(
    ("phash", "pdq", "quality", "is_same", "verdict"),
    [
        (8, 31, 100, False, "overlap"),
        (8, 32, 100, False, "candidate"),
        (4, 64, 100, False, "overlap"),
        (4, 65, 100, False, "candidate"),
        (8, 90, 100, False, "candidate"),
        (8, 91, 100, False, "unrelated"),
        (0, 91, 49, False, "undecidable"),
        (0, 0, 49, False, "undecidable"),
        (0, 0, 0, True, "overlap"),
    ],
)
def test_pdq_confirms_what_phash_proposes_unless_the_image_is_flat(
    phash: int, pdq: int, quality: int, is_same: bool, verdict: str
) -> None:
    rows = [np.array([value]) for value in (phash, pdq, quality, is_same)]
    assert VERDICTS[verdicts(*rows, DedupSettings())[0]] == verdict
