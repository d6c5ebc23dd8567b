"""URLs: an image's address as browsers read it, or the reason why it is none."""

import re
from collections.abc import Sequence
from functools import cache
from ipaddress import IPv6Address
from typing import Any
from unicodedata import normalize
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text import encodable

REASONS = ("no url", "not http", "bad url", "user name in url", "url too long")

# What Brave's query filter (brave-core, components/query_filter) or ClearURLs' global rules take
# out, as far as it says nothing of the picture on any site.
_LISTED = (
    *("utm_*", "mtm_*", "__hs*", "_hs*", "hsctatracking", "__s", "_ga", "_gl", "_openstat"),
    *("dclid", "fbclid", "gclid", "wbraid", "msclkid", "twclid", "yclid", "igsh", "igshid"),
    *("mc_cid", "mc_eid", "mkt_tok", "ml_subscriber", "ml_subscriber_hash", "oly_anon_id"),
    *("oly_enc_id", "rb_clickid", "s_cid", "vero_conv", "vero_id", "wickedid"),
)
# Matomo's campaigns, and the click ids of Google Ads, Pinterest, LinkedIn and TikTok.
_UNLISTED = ("pk_*", "matomo_*", "gbraid", "gclsrc", "epik", "li_fat_id", "ttclid")
TRACKING = (*_LISTED, *_UNLISTED)
"""Parameters that say who clicked, and never what is shown; `*` ends a family of them."""

_CONTROLS_AND_SPACE = "".join(map(chr, range(33)))
_LEFT_OUT = str.maketrans("", "", "\t\r\n")
_BEGIN = re.compile(r"(https?):[/\\]{2}([^/\\?]*)", re.IGNORECASE | re.ASCII)
_IS_HTTP = re.compile("https?:", re.IGNORECASE | re.ASCII)
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]*))?")
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_PORTS = {"http": "80", "https": "443"}

# What browsers leave as it is in a path and in a query (URL standard, percent-encode sets).
_SAFE_IN_PATH = "/%!$&'()*+,;=:@[]|^~-._"
_SAFE_IN_QUERY = "/%!$&()*+,;=:@[]|\\^~-._?{}`"

# An address that cleaning leaves as it is: most are, and this tells a batch of them at once.
_LABEL = "[a-z0-9_-]{1,40}"
_IN_SEGMENT = r"a-zA-Z0-9!$&'()*+,;=:@\[\]|^~_\-"
_PLAIN = (
    rf"^https?://{_LABEL}(?:\.{_LABEL}){{0,5}}"
    rf"(?:/(?:[{_IN_SEGMENT}][{_IN_SEGMENT}%.]*)?)+"
    r"(?:\?[a-zA-Z0-9/%!$&()*+,;=:@\[\]|\\^~._?{}`-]+)?$"
)


def clean_url(url: str | None, max_chars: int) -> tuple[str, str | None]:
    """`url` as a browser would ask for it, in ASCII and without its fragment; or why it is none.

    As the URL standard (https://url.spec.whatwg.org) has it: controls and spaces around it and
    line ends in it are left out, scheme and host are in lower case, the scheme's own port and
    the path's dots are resolved, a host in other scripts is punycode, and what ASCII lacks is
    percent-encoded. Stricter than browsers in that two slashes and a domain name, or an IPv6
    address, must follow the scheme.
    """
    url = (url or "").strip(_CONTROLS_AND_SPACE).translate(_LEFT_OUT).partition("#")[0]
    if not url:
        return "", "no url"
    begin = _BEGIN.match(url)
    if begin is None:
        return "", "bad url" if _IS_HTTP.match(url) else "not http"
    if len(url) > max_chars:
        return "", "url too long"
    if "@" in begin[2]:
        return "", "user name in url"
    scheme = begin[1].lower()
    host = _host_and_port(begin[2], _PORTS[scheme])
    if host is None:
        return "", "bad url"
    path, _, query = url[begin.end() :].partition("?")
    path = path.replace("\\", "/") or "/"
    if "/." in path or "/%2" in path:
        path = _without_dots(path)
    clean = f"{scheme}://{host}{quote(path, _SAFE_IN_PATH, errors='replace')}"
    if query:
        clean += "?" + quote(query, _SAFE_IN_QUERY, errors="replace")
    return (clean, None) if len(clean) <= max_chars else ("", "url too long")


def clean_urls(urls: pa.StringArray, max_chars: int) -> tuple[pa.StringArray, npt.NDArray[Any]]:
    """`clean_url` of each; of each the reason's place in REASONS from 1, 0 where there is none."""
    is_plain = pc.and_(
        pc.match_substring_regex(urls, _PLAIN), pc.less_equal(pc.binary_length(urls), max_chars)
    )
    others = pc.invert(pc.fill_null(is_plain, False))
    reasons = np.zeros(len(urls), np.int8)
    cleaned = [clean_url(url, max_chars) for url in urls.filter(others).to_pylist()]
    if not cleaned:
        return urls, reasons
    reasons[others.to_numpy(zero_copy_only=False)] = [
        0 if reason is None else REASONS.index(reason) + 1 for _, reason in cleaned
    ]
    replaced = pa.array([url for url, _ in cleaned], pa.string())
    return pc.replace_with_mask(urls, others, replaced), reasons


def _host_and_port(authority: str, default: str) -> str | None:
    """Host and port as a browser writes them; None where there is no such host."""
    parts = _HOST_AND_PORT.fullmatch(authority)
    if parts is None:
        return None
    host, port = clean_host(parts[1]), (parts[2] or default).lstrip("0")
    is_port = 0 < len(port) <= 5 and int(port) < 65536
    if host is None or not is_port:
        return None
    return host if port == default else f"{host}:{port}"


def clean_host(host: str) -> str | None:
    """A host name in lower case and punycode, or an IPv6 address; None for anything else."""
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1])}]" if "%" not in host else None
        except ValueError:
            return None
    if len(host) > 253:
        return None
    if not host.isascii():
        # Labels are mapped as UTS 46 does without its transition: U+00DF stays what it is, where
        # Python's own codec makes "ss" of it, which is another host.
        text = normalize("NFKC", normalize("NFKC", encodable(host)).lower()).replace("\u3002", ".")
        host = ".".join(map(_punycoded, text.split(".")))
    host = host.lower()
    return host if len(host) <= 253 and _HOST.fullmatch(host) else None


def _punycoded(label: str) -> str:
    return label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")


def _without_dots(path: str) -> str:
    """`path` without its segments `.` and `..`, which `%2e` may be written for."""
    kept: list[str] = []
    dots = ""
    for segment in path.split("/")[1:]:
        dots = segment.lower().replace("%2e", ".")
        if dots == "..":
            del kept[-1:]
        elif dots != ".":
            kept.append(segment)
    if dots in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


# -- tracking ------------------------------------------------------------------------------


def without_tracking(url: str, more: Sequence[str] = ()) -> str:
    """A clean `url` without the parameters of TRACKING, and of `more`: what names its picture."""
    begin, _, query = url.partition("?")
    if not query:
        return url
    is_tracking, _ = _tracking(tuple(more))
    parts = query.split("&")
    kept = [part for part in parts if not is_tracking.match(part)]
    if len(kept) == len(parts):
        return url
    return f"{begin}?{'&'.join(kept)}" if any(kept) else begin


def all_without_tracking(urls: pa.StringArray, more: Sequence[str] = ()) -> pa.StringArray:
    """`without_tracking` of each."""
    _, anywhere = _tracking(tuple(more))
    may_track = pc.match_substring_regex(urls, anywhere)
    found = [without_tracking(url, more) for url in urls.filter(may_track).to_pylist()]
    return pc.replace_with_mask(urls, may_track, pa.array(found, pa.string())) if found else urls


@cache
def _tracking(more: tuple[str, ...]) -> tuple[re.Pattern[str], str]:
    """What such a parameter looks like, and an address that has one."""
    names = [
        re.escape(name.removesuffix("*")) + ("[^=&]*" if name.endswith("*") else "")
        for name in (*TRACKING, *more)
    ]
    either = "|".join(names)
    named = re.compile(f"(?:{either})(?:=|$)", re.IGNORECASE | re.ASCII)
    return named, f"(?i)[?&](?:{either})(?:[=&]|$)"
