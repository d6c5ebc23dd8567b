"""Addresses: what a URL asks for, and which machines may be asked."""

import ipaddress
import re
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from pipeline.download.reasons import FetchError

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_.-]+")
_CONTROLS_AND_SPACE = "".join(map(chr, range(33)))
_LEFT_OUT = str.maketrans("", "", "\t\r\n")

# What browsers leave as it is in a path and in a query (URL standard, percent-encode sets).
_SAFE_IN_PATH = "/%!$&'()*+,;=:@[]|\\^~-._"
_SAFE_IN_QUERY = "/%!$&()*+,;=:@[]|\\^~-._?{}`"

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_CACHE_SECONDS = 60.0
_CACHED_HOSTS = 50_000


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
    if port == 0:
        raise FetchError("bad url", "port 0")
    path = quote(parts.path or "/", safe=_SAFE_IN_PATH, errors="replace")
    if parts.query:
        path += "?" + quote(parts.query, safe=_SAFE_IN_QUERY, errors="replace")
    return Target(parts.scheme, _ascii_host(host), port or _PORTS[parts.scheme], path)


def _ascii_host(host: str) -> str:
    if ":" in host:  # urlsplit has checked the brackets, not what is in them
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise FetchError("bad url", "host is not an IPv6 address") from None
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii").lower()
    except UnicodeError:
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
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


class Resolver:
    """Host names to numeric addresses, within a time limit, remembered for a minute."""

    def __init__(self, threads: int) -> None:
        # getaddrinfo knows no time limit: a look-up that is given up keeps its thread for a
        # while, so there are more of these threads than fetches.
        self._pool = ThreadPoolExecutor(4 * threads, thread_name_prefix="dns")
        self._known: dict[str, tuple[float, list[str]]] = {}

    def addresses(self, host: str, seconds: float) -> list[str]:
        """The addresses of `host`, in the system's order of preference. Raises FetchError."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        until, known = self._known.get(host, (0.0, []))
        if time.monotonic() < until:
            return known
        found = self._look_up(host, seconds)
        if len(self._known) >= _CACHED_HOSTS:
            self._known.clear()
        self._known[host] = (time.monotonic() + _CACHE_SECONDS, found)
        return found

    def _look_up(self, host: str, seconds: float) -> list[str]:
        future = self._pool.submit(
            socket.getaddrinfo, host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        try:
            answers = future.result(timeout=seconds)
        except TimeoutError:
            future.cancel()
            raise FetchError("timeout", "dns", may_pass=True) from None
        except socket.gaierror as error:
            is_for_now = error.errno == socket.EAI_AGAIN
            raise FetchError("dns", error.strerror or "", may_pass=is_for_now) from None
        except UnicodeError:
            raise FetchError("bad url", "host is not a domain name") from None
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
