"""pipeline.ingest.captions"""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest.captions import REASONS, clean_caption, clean_captions, normalise_all, unfit
from pipeline.settings import IngestSettings
from pipeline.text import normalise

_SETTINGS = IngestSettings(drop_file_names=True, max_caption_chars=60)
_UNSEEN = ["\x00", "\u200b", "\u202e", "\ufeff", " "]
_ENTITIES = ["&amp;", "&", "&#0;", "&#xd800;", "&lt"]
_OTHERS = ["e\u0301", "\u0301" * 40, "é", "ﬁ", "™", "🎉", "שלום", "-", "x.jpg", "www.a"]
_PARTS = st.sampled_from(["a red circle", *_UNSEEN, *_ENTITIES, *_OTHERS])
_CAPTIONS = st.none() | st.text() | st.lists(_PARTS, max_size=6).map("".join)


@pytest.mark.parametrize(
    ("caption", "clean"),
    [
        ("a &amp; b\x00\n\tc\u200b &eacute;", "a & b c é"),
        ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
        ("\u202ba\u00addvance\u202c\u2069 \ufeff", "advance"),
        ("a\u00a0\u2003\u3000\u2028b", "a b"),
        ("\U0001f469\u200d\U0001f680 flies", "\U0001f469\u200d\U0001f680 flies"),
        ("cut \ud83d", "cut \ufffd"),
    ],
)
def test_a_caption_loses_entities_unseen_characters_and_runs_of_space(
    caption: str, clean: str
) -> None:
    assert clean_caption(caption) == clean


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "no caption"),
        ("\U0001f389 \U0001f680 ... —", "no words"),
        ("🎉", "no words"),
        ("DSC_0023.JPG", "file name"),
        ("https://a.example/page", "file name"),
        ("cat", "caption too short"),
        ("a red circle " * 9, "caption too long"),
        ("IMG 2.jpg", None),
        ("שלום עולם", None),
        ("红色的圆", "caption too short"),
        ("c\u0301\u0302\u0303" * 15 + " red", "caption too long"),
    ],
)
def test_a_caption_that_is_none_is_told_why(caption: str, reason: str | None) -> None:
    assert unfit(caption, _SETTINGS) == reason


@given(_CAPTIONS)
def test_cleaning_leaves_nothing_unseen_and_no_run_of_space(caption: str | None) -> None:
    clean = clean_caption(caption or "")
    assert clean == clean.strip()
    assert clean.isprintable() or not any(c in clean for c in "\x00\t\n\x85\u200b\u202e\ufeff\xa0")
    assert " " * 2 not in clean


@settings(deadline=None)  # the first call compiles its expressions
@given(st.lists(_CAPTIONS))
def test_a_batch_of_captions_is_cleaned_as_each_of_them(captions: list[str | None]) -> None:
    given_ = [c if c is None else c.encode(errors="replace").decode() for c in captions]
    found, reasons = clean_captions(pa.array(given_, pa.string()), _SETTINGS)
    each = [clean_caption(caption or "") for caption in given_]
    assert found.to_pylist() == each
    told = [REASONS[place - 1] if place else None for place in reasons]
    assert told == [unfit(caption, _SETTINGS) for caption in each]


@settings(deadline=None)  # the first call compiles its expressions
@given(st.lists(_CAPTIONS))
def test_a_batch_is_normalised_as_each_caption(captions: list[str | None]) -> None:
    clean = [clean_caption(caption or "") for caption in captions]
    assert normalise_all(pa.array(clean, pa.string())).to_pylist() == list(map(normalise, clean))


@pytest.mark.parametrize(
    "caption", ["\u0301" * 10**6, "&" * 10**6, "&#" + "9" * 10**6, " \u200b" * 500_000, "x" * 10**6]
)
def test_a_megabyte_of_caption_is_too_long_or_nothing(caption: str) -> None:
    found, reasons = clean_captions(pa.array([caption]), IngestSettings())
    assert reasons[0]
    assert found[0].as_py() == clean_caption(caption)
