"""Captions: the text beside an image, cleaned, or the reason why it is none."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.settings import IngestSettings
from pipeline.text import TOKEN, encodable, fold, normalise, unescape

REASONS = ("no caption", "no words", "file name", "caption too short", "caption too long")

# What stands between words, seen or not: controls, the zero-width space, ends of lines, a tab.
_APART = r"\x00-\x20\x7f-\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u3000"
# What stands in words and is not seen: soft hyphens, word joiners, byte order marks, and marks of
# direction, which a page means for its own line. Joiners are kept: scripts and emoji need them.
_UNSEEN = r"\xad\u061c\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
_SPACES = re.compile(f"[{_APART}]+")
_UNSEEN_ONES = re.compile(f"[{_UNSEEN}]+")
_FILE_NAME = re.compile(
    r"(?:https?://|www\.)\S+|\S+\.(?:jpe?g|png|gif|webp|avif|bmp|svg|tiff?)", re.IGNORECASE
)


def _re2(classes: str) -> str:
    return re.sub(r"\\u(....)", r"\\x{\1}", classes)


# A caption that cleaning leaves as it is: most are, and this tells a batch of them at once.
_PLAIN = "^X+(?: X+)*$".replace("X", f"[^{_re2(_APART + _UNSEEN)}&]")
_HAS_WORD = "[0-9A-Za-z]"


def clean_caption(caption: str) -> str:
    """`caption` without entities, unseen characters and runs of space."""
    text = _UNSEEN_ONES.sub("", encodable(unescape(caption)))
    return _SPACES.sub(" ", text).strip(" ")


def unfit(caption: str, settings: IngestSettings) -> str | None:
    """Why a clean caption is none; None where it is one."""
    if not caption:
        return "no caption"
    if len(caption) > settings.max_caption_chars:
        return "caption too long"
    # Without a word no query can ever be found in it: emoji alone, dashes, dots.
    if not TOKEN.search(fold(caption)):
        return "no words"
    if settings.drop_file_names and _FILE_NAME.fullmatch(caption):
        return "file name"
    if len(caption) < settings.min_caption_chars:
        return "caption too short"
    return None


def clean_captions(
    captions: pa.StringArray, settings: IngestSettings
) -> tuple[pa.StringArray, npt.NDArray[Any]]:
    """Each caption clean; of each the place of why it is unfit in REASONS from 1, 0 for a fit."""
    captions = pc.fill_null(captions, "")
    others = pc.invert(pc.match_substring_regex(captions, _PLAIN))
    cleaned = [clean_caption(caption) for caption in captions.filter(others).to_pylist()]
    if cleaned:
        captions = pc.replace_with_mask(captions, others, pa.array(cleaned, pa.string()))

    # What is surely fit is told at once, and the rest one by one.
    chars = pc.utf8_length(captions)
    is_short = pc.less_equal(chars, settings.max_caption_chars)
    is_fit = pc.and_(is_short, pc.greater_equal(chars, settings.min_caption_chars))
    is_fit = pc.and_(is_fit, pc.match_substring_regex(captions, _HAS_WORD))
    if settings.drop_file_names:
        is_fit = pc.and_(is_fit, pc.match_substring(captions, " "))
    reasons = np.zeros(len(captions), np.int8)
    is_unsure = pc.invert(is_fit)
    found = [unfit(caption, settings) for caption in captions.filter(is_unsure).to_pylist()]
    reasons[is_unsure.to_numpy(zero_copy_only=False)] = [
        0 if reason is None else REASONS.index(reason) + 1 for reason in found
    ]
    return captions, reasons


def normalise_all(captions: pa.StringArray) -> pa.StringArray:
    """`pipeline.text.normalise` of each."""
    found = pc.replace_substring_regex(pc.ascii_lower(captions), "[^0-9a-z]+", " ")
    found = pc.ascii_trim(found, " ")
    others = pc.invert(pc.string_is_ascii(captions))
    slow = [normalise(caption) for caption in captions.filter(others).to_pylist()]
    return pc.replace_with_mask(found, others, pa.array(slow, pa.string())) if slow else found
