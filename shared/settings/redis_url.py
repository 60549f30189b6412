"""The address of Redis: one reading of ``MPA_REDIS_URL`` for the state, the queue and the command line.

Forms (``user``, ``password``, ``/db`` and the query are optional)::

    redis://user:password@host:6379/0
    rediss://user:password@host:6379/0?ssl_ca_certs=/etc/ssl/redis-ca.pem
    unix://user:password@/run/redis.sock?db=0
    redis+sentinel://user:password@host-a:26379,host-b:26379/master-name/0
    rediss+sentinel://…, with TLS to the sentinels and to the master

TLS verifies the server's certificate unless the URL itself says ``ssl_cert_reqs=none``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

REDIS_PORT, SENTINEL_PORT = 6379, 26379
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL = ("sentinel_username", "sentinel_password")
_REQUIREMENTS = {"required": "required", "cert_required": "required", "none": "none", "cert_none": "none"}
_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class RedisAddress:
    """Where Redis is and how to log in. ``hosts`` are those of the sentinels if there is a ``master``."""

    hosts: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    master: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_options: Mapping[str, Any] = field(default_factory=dict)
    """The ``ssl_…`` arguments of redis-py: files, ``ssl_cert_reqs`` and ``ssl_check_hostname``."""
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """``username`` and ``password`` of the sentinels, which have users of their own."""

    @property
    def login(self) -> dict[str, str]:
        given = {"username": self.username, "password": self.password}
        return {name: value for name, value in given.items() if value is not None}


def parse_redis_url(url: str) -> RedisAddress:
    """Raises ValueError that names the URL (without its password), what is wrong, and what to write."""
    try:
        return _parse(urlsplit(url))
    except ValueError as error:
        raise ValueError(f"{hide_password(url)!r} is not an address of Redis: {error}") from None


def add_password(url: str, password: str) -> str:
    """``url`` with ``password``, unless it has one."""
    parts = urlsplit(url)
    if parts.password is not None:
        return url
    rest = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{rest}"))


def hide_password(url: str) -> str:
    """``url`` for logs and errors: passwords become ``***``, also those of a URL that cannot be read."""
    address, mark, query = url.partition("?")
    scheme, slashes, rest = address.rpartition("://")
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    hidden = "&".join(
        f"{name}=***" if "password" in name.lower() else pair
        for pair in query.split("&")
        for name in [pair.partition("=")[0]]
    )
    return f"{scheme}{slashes}{user}{colon}{'***' if colon else ''}{at}{place}{mark}{hidden}"


def _parse(parts: SplitResult) -> RedisAddress:
    if parts.scheme not in SCHEMES:
        raise ValueError("write redis://host:port/0, rediss://…, unix:///path or redis+sentinel://host:port/master/0")
    if parts.fragment:
        raise ValueError("it holds a '#': write it as %23 in a password")
    query = _read_query(parts)
    login, _, place = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    given: dict[str, Any] = {
        "username": unquote(user) or None,
        "password": unquote(password) if colon and password else None,
        "tls": parts.scheme.startswith("rediss"),
        "tls_options": _read_tls(query),
        "sentinel_login": {name.removeprefix("sentinel_"): query[name] for name in _SENTINEL if name in query},
    }
    path = unquote(parts.path)
    if parts.scheme == "unix":
        if place or not path.strip("/"):
            raise ValueError("write the path of the socket with three slashes: unix:///run/redis.sock?db=0")
        return RedisAddress(socket=path, db=_read_db(query.get("db", "")), **given)
    words = path.strip("/").split("/") if path.strip("/") else []
    if parts.scheme.endswith("+sentinel"):
        if not 1 <= len(words) <= 2:
            raise ValueError("name the master after the sentinels: redis+sentinel://host:26379/master-name/0")
        hosts = tuple(_read_host(one, SENTINEL_PORT) for one in place.split(","))
        return RedisAddress(hosts, master=words[0], db=_read_db(query.get("db", *words[1:])), **given)
    if len(words) > 1:
        raise ValueError(f"after the host comes only the number of the database, not {path!r}")
    return RedisAddress((_read_host(place, REDIS_PORT),), db=_read_db(query.get("db", *words)), **given)


def _read_query(parts: SplitResult) -> dict[str, str]:
    known = {"db"}
    if parts.scheme.startswith("rediss"):
        known |= set(_TLS)
    if parts.scheme.endswith("+sentinel"):
        known |= set(_SENTINEL)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in query:
        if name not in known:
            choice = ", ".join(sorted(known))
            raise ValueError(f"{parts.scheme}:// has no parameter {name!r}; the known ones are {choice}")
    return query


def _read_tls(query: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {name: query[name] for name in _FILES if name in query}
    if "ssl_cert_reqs" in query:
        if query["ssl_cert_reqs"].lower() not in _REQUIREMENTS:
            raise ValueError(f"ssl_cert_reqs is {query['ssl_cert_reqs']!r}: write required or none")
        options["ssl_cert_reqs"] = _REQUIREMENTS[query["ssl_cert_reqs"].lower()]
    if "ssl_check_hostname" in query:
        if query["ssl_check_hostname"].lower() not in _SWITCH:
            raise ValueError(f"ssl_check_hostname is {query['ssl_check_hostname']!r}: write true or false")
        options["ssl_check_hostname"] = _SWITCH[query["ssl_check_hostname"].lower()]
    return options


def _read_db(text: str = "") -> int:
    if text and not (text.isascii() and text.isdecimal()):
        raise ValueError(f"the database is {text!r}: write a number, as in /0")
    return int(text or 0)


def _read_host(place: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError("the host is missing: write redis://host:port/0")
    return parts.hostname, parts.port or port
