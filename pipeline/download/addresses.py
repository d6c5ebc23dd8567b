"""Addresses: what a URL asks for, and which machines may be asked."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

import idna

from pipeline.download.reasons import FetchError

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_.-]+")
_CONTROLS_AND_SPACE = "".join(map(chr, range(33)))
_LEFT_OUT = str.maketrans("", "", "\t\r\n")

# What browsers leave as it is in a path and in a query (URL standard, percent-encode sets).
_SAFE_IN_PATH = "/%!$&'()*+,;=:@[]|\\^~-._"
_SAFE_IN_QUERY = "/%!$&()*+,;=:@[]|\\^~-._?{}`"

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# What Python takes for public: IETF protocol assignments, which is so before 3.11.10 (Oracle's
# metadata lie there), and the address under which Azure serves its machines alone.
_NOT_PUBLIC = tuple(map(ipaddress.IPv4Network, ("192.0.0.0/24", "168.63.129.16/32")))

# Ports of services that a request could be mistaken for a command to (Fetch standard, "port
# blocking"): mail, shells, file systems.
_BAD_PORTS_TEXT = (
    "0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 "
    "110 111 113 115 117 119 123 135 137 139 143 161 179 389 427 465 512 513 514 515 526 "
    "530 531 532 540 548 554 556 563 587 601 636 989 990 993 995 1719 1720 1723 2049 3659 "
    "4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080"
)
_BAD_PORTS = frozenset(map(int, _BAD_PORTS_TEXT.split()))


@dataclass(frozen=True)
class Target:
    """What a URL asks for, as it goes over the wire."""

    scheme: str
    host: str
    port: int
    path: str
    """Path and query, quoted."""

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def place(self) -> tuple[str, str, int]:
        """What a connection goes to."""
        return self.scheme, self.host, self.port

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def is_among(self, hosts: Sequence[str]) -> bool:
        """Whether `hosts` names the host, alone or with the port."""
        return self.host in hosts or f"{self.host}:{self.port}" in hosts


def parse(url: str) -> Target:
    """The target of `url`, read as browsers do. Raises FetchError."""
    url = url.strip(_CONTROLS_AND_SPACE).translate(_LEFT_OUT).partition("#")[0]
    before_query, mark, query = url.partition("?")
    try:
        parts = urlsplit(before_query.replace("\\", "/") + mark + query)
        host, port = parts.hostname or "", parts.port
        has_user = parts.username is not None
    except ValueError as error:
        raise FetchError("bad url", str(error)) from None
    if parts.scheme not in _PORTS:
        raise FetchError("bad url", f"scheme {parts.scheme!r} is neither http nor https")
    if has_user:
        raise FetchError("bad url", "holds a user name")
    if port in _BAD_PORTS:
        raise FetchError("bad url", f"port {port}")
    path = quote(parts.path or "/", safe=_SAFE_IN_PATH, errors="replace")
    if parts.query:
        path += "?" + quote(parts.query, safe=_SAFE_IN_QUERY, errors="replace")
    return Target(parts.scheme, _ascii_host(host), port or _PORTS[parts.scheme], path)


def _ascii_host(host: str) -> str:
    if ":" in host:  # urlsplit has checked the brackets, not what is in them
        try:
            ip = ipaddress.IPv6Address(host)
        except ValueError:
            raise FetchError("bad url", "host is not an IPv6 address") from None
        if ip.scope_id is not None:  # which may be any text
            raise FetchError("bad url", "host is an address of one network card")
        return str(ip)
    host = unquote(host).lower()
    try:
        host = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except (UnicodeError, ValueError):  # an IDNAError is one of the two
        raise FetchError("bad url", "host is not a domain name") from None
    labels = host.removesuffix(".").split(".")
    is_name = _HOST.fullmatch(host) and all(0 < len(label) < 64 for label in labels)
    if not is_name or len(host) > 253:
        raise FetchError("bad url", "host is not a domain name")
    return host


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the public internet.

    >>> is_public("10.0.0.1"), is_public("::ffff:127.0.0.1")
    (False, False)
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None or ip.is_site_local:
            return False
        carried = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
    if any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)
