"""The one place where clients of Redis are made: state, queue, presence and probes read the address alike."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import quote

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, ResponseError
from redis.retry import Retry

from shared.settings.redis_url import RedisAddress, parse_redis_url

_REFUSALS = {
    "OOM": "is full and takes no writes: raise maxmemory, or remove what MPA has not put there",
    "READONLY": "is a read-only replica: let MPA_REDIS_URL name the primary",
    "LOADING": "is still loading its file",
    "MASTERDOWN": "is a replica that has lost its primary",
    "MISCONF": "cannot save to its disk, so it takes no writes: free some space there",
    "NOREPLICAS": "takes no writes while too few replicas are connected (min-replicas-to-write)",
    "BUSY": "is busy with a script",
    "CLUSTERDOWN": "is down as a cluster",
}
# At the start, or after a dash where a script of Redis 6 has met the error.
_CODE = re.compile(rf"(?:^|-)({'|'.join(_REFUSALS)})\b")


class RedisRefuses(ConnectionError):
    """Redis answers, but does not do this now, whoever asks: it is full, for example, or no longer the primary.

    A ConnectionError, because callers have to do the same: wait, and connect again, perhaps to another server.
    """


def refusal_of(error: RedisError) -> RedisRefuses | None:
    """What an error answer of Redis means for those who can wait; None if it concerns the command."""
    found = _CODE.search(f"{getattr(error, 'status_code', None) or ''} {error}".strip())
    return RedisRefuses(f"Redis {_REFUSALS[found[1]]} ({error}).") if found else None


def redis_trouble(error: Exception) -> str:
    """What kept Redis from doing what it was asked for, in words for an operator."""
    return str(error) if isinstance(error, RedisRefuses) else f"Redis does not answer: {error}"


class _Refusing:
    raised: type[Exception] = RedisRefuses

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return cast(Any, super()).read_response(*args, **options)
        except (ResponseError, BusyLoadingError) as error:
            refused = refusal_of(error)
            if refused is None:
                raise
            cast(Any, self).disconnect()
            raise self.raised(str(refused)) from error


class _AsyncRefusing:
    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await cast(Any, super()).read_response(*args, **options)
        except (ResponseError, BusyLoadingError) as error:
            refused = refusal_of(error)
            if refused is None:
                raise
            await cast(Any, self).disconnect(nowait=True)
            raise refused from error


def refusing(kind: type, raised: type[Exception] = RedisRefuses) -> type:
    """``kind`` of connection that raises RedisRefuses, or ``raised``, and connects again before the next command."""
    mixin = _AsyncRefusing if issubclass(kind, redis.asyncio.connection.AbstractConnection) else _Refusing
    return type(kind.__name__, (mixin, kind), {"raised": raised})


class _SentinelClient(redis.Redis):
    def close(self) -> None:
        super().close()
        cast(Any, self.connection_pool).sentinel_manager.close()


class _AsyncSentinelClient(redis.asyncio.Redis):
    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await cast(Any, self.connection_pool).sentinel_manager.aclose()


def open_redis(url: str, timeout: float) -> redis.Redis:
    """A blocking client that tries each call once. Calls fail after ``timeout`` seconds without an answer."""
    address = parse_redis_url(url)
    arguments = {**_arguments(address, timeout), "retry": Retry(NoBackoff(), 0)}
    if address.master:
        client = cast(redis.Redis, _master(redis.sentinel, _SentinelClient, address, timeout, arguments))
    else:
        client = redis.Redis(**arguments)
    client.connection_pool.connection_class = refusing(client.connection_pool.connection_class)
    return client


def open_async_redis(
    url: str, timeout: float, *, again: bool = False, health_check_interval: int = 0
) -> redis.asyncio.Redis:
    """A client for the event loop. Calls fail after ``timeout`` seconds without an answer.

    ``again``: try a call once more at once if its connection turns out to be dead. ``health_check_interval`` (seconds):
    a connection that was idle for longer is tried before it is used; 0 means never.
    """
    address = parse_redis_url(url)
    retry = AsyncRetry(NoBackoff(), int(again), supported_errors=(ConnectionError,))
    arguments = {**_arguments(address, timeout), "retry": retry, "health_check_interval": health_check_interval}
    if address.master:
        master = _master(redis.asyncio.sentinel, _AsyncSentinelClient, address, timeout, arguments)
        client = cast(redis.asyncio.Redis, master)
    else:
        client = redis.asyncio.Redis(**arguments)
    client.connection_pool.connection_class = refusing(client.connection_pool.connection_class)
    return client


def broker_settings(url: str) -> dict[str, Any]:
    """Celery's ``broker_url``, ``broker_use_ssl`` and ``broker_transport_options`` for ``url``."""
    address = parse_redis_url(url)
    options: dict[str, Any] = {}
    if address.socket:
        broker = f"redis+socket://{_login(address)}{quote(address.socket)}?virtual_host={address.db}"
    elif address.master:
        broker = ";".join(f"sentinel://{_login(address)}{_place(host)}/{address.db}" for host in address.hosts)
        options = {
            "master_name": address.master,
            "sentinel_kwargs": {**_sentinel(address, 5.0), "retry": Retry(NoBackoff(), 0)},
        }
    else:
        broker = f"redis://{_login(address)}{_place(address.hosts[0])}/{address.db}"
    # Under the name rediss:// kombu would not verify the certificate unless it is told to.
    return {"broker_url": broker, "broker_use_ssl": _tls(address) or None, "broker_transport_options": options}


def _arguments(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """Arguments of a client, without the host if sentinels know it."""
    common = {"db": address.db, "socket_timeout": timeout, "socket_connect_timeout": timeout, **address.login}
    if address.socket:
        return {**common, "unix_socket_path": address.socket}
    if address.master:
        return {**common, **_tls(address)}
    host, port = address.hosts[0]
    return {**common, "host": host, "port": port, "ssl": address.tls, **_tls(address)}


def _master(kind: Any, client: type, address: RedisAddress, timeout: float, arguments: dict[str, Any]) -> object:
    """A ``client`` that follows the master. ``kind``: redis.sentinel or redis.asyncio.sentinel."""
    tls = {"connection_class": kind.SentinelManagedSSLConnection} if address.tls else {}
    # A sentinel that does not answer is skipped at once: the next one knows the master as well.
    asking = {**_sentinel(address, timeout), "retry": type(arguments["retry"])(NoBackoff(), 0)}
    sentinels = kind.Sentinel(address.hosts, sentinel_kwargs=asking)
    return sentinels.master_for(address.master, client, **arguments, **tls)


def _sentinel(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """Arguments of the clients that ask the sentinels."""
    common = {"socket_timeout": timeout, "socket_connect_timeout": timeout, **address.sentinel_login}
    return {**common, "ssl": address.tls, **_tls(address)}


def _tls(address: RedisAddress) -> dict[str, Any]:
    if not address.tls:
        return {}
    return {"ssl_cert_reqs": "required", **address.tls_options}


def _login(address: RedisAddress) -> str:
    if not address.login:
        return ""
    return f"{quote(address.username or '', safe='')}:{quote(address.password or '', safe='')}@"


def _place(host: tuple[str, int]) -> str:
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
