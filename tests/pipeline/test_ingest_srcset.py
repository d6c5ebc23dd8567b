"""pipeline.ingest.srcset"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.srcset import largest


@pytest.mark.parametrize(
    ("srcset", "address"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg 1x, b.jpg 2x", "b.jpg"),
        ("a.jpg 2x, b.jpg", "a.jpg"),
        ("a.jpg 1.5x,b.jpg 1x", "a.jpg"),
        ("a.jpg 300w, b.jpg 1200w, c.jpg 600w", "b.jpg"),
        ("a,b.jpg 100w,c.jpg, d,e.jpg 200w", "d,e.jpg"),
        ("a.jpg 100w 50h, b.jpg 90w", "a.jpg"),
        ("a.jpg (some, day) 3x, b.jpg 2x", "b.jpg"),
        ("data:image/gif;base64,AA== 3x, a.jpg 1x", "a.jpg"),
        ("DATA:image/gif;base64,AA==", None),
        ("a.jpg 0w, b.jpg -1x, c.jpg 1y", None),
        (" , ,", None),
        ("a.jpg,,,", "a.jpg"),
        ("first.jpg 2x, second.jpg 2x", "first.jpg"),
    ],
)
def test_the_largest_candidate_is_taken(srcset: str, address: str | None) -> None:
    assert largest(srcset) == address


@given(st.text(alphabet="a:,() \t1.wxh-data"))
def test_an_address_that_is_found_was_offered(srcset: str) -> None:
    address = largest(srcset)
    assert address is None or (address in srcset and address and " " not in address)
