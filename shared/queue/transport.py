"""kombu's Redis transport, but a message that cannot be acknowledged no longer counts as one that the worker holds.

In kombu 5.7.0 (``kombu/transport/redis.py``, ``QoS.ack``) a message whose acknowledgement cannot reach Redis stays in
the process's count of held messages forever. When the count reaches the prefetch limit, the worker stops polling: it
looks alive, and takes no message until it is restarted. docs/reliability.md has a report for kombu's developers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from shared.state.connection import refusing

log = logging.getLogger(__name__)

CONNECTION_ERRORS, CHANNEL_ERRORS = redis.get_redis_error_classes()  # type: ignore[no-untyped-call]


class BrokerRefuses(OSError):
    """Redis is full, for example. kombu connects again after an OSError.

    Not one of redis-py's own connection errors: it repeats a transaction that meets one at once, and without end.
    """


class FreeingQoS(redis.QoS):
    """Counts a message as held until its work has ended, whether or not Redis learns of that.

    A message that Redis did not learn of is delivered again after the visibility timeout. That does no harm, because
    the job's record says that its work is done.
    """

    def ack(self, delivery_tag: str) -> None:
        """Remove the message from Redis, and free its slot even if Redis is unavailable."""
        with self._freeing(delivery_tag):
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Remove the message from Redis or put it back into the queue. Frees its slot even if Redis is unavailable."""
        with self._freeing(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]

    @contextmanager
    def _freeing(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except (*CONNECTION_ERRORS, *CHANNEL_ERRORS) as error:
            log.warning("Redis is unavailable, so a message could not be acknowledged; its work is recorded: %s", error)
        finally:
            self._quick_ack(delivery_tag)


class FreeingChannel(redis.Channel):
    """A channel that counts held messages as ``FreeingQoS`` does, and connects again if Redis refuses to work now.

    To kombu, an error answer of Redis that is full, or a replica, is a fault of the program, which ends the worker.
    """

    QoS = FreeingQoS

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return _refusing(super()._connparams(asynchronous))  # type: ignore[no-untyped-call]


class FreeingTransport(redis.Transport):
    """For ``redis://`` and ``redis+socket://``."""

    Channel = FreeingChannel


class FreeingSentinelChannel(redis.SentinelChannel):
    """Like ``FreeingChannel``, on the master that the sentinels name."""

    QoS = FreeingQoS

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return _refusing(super()._connparams(asynchronous))  # type: ignore[no-untyped-call]


class FreeingSentinelTransport(redis.SentinelTransport):
    """For ``sentinel://``."""

    Channel = FreeingSentinelChannel


def _refusing(parameters: dict[str, Any]) -> dict[str, Any]:
    return {**parameters, "connection_class": refusing(parameters["connection_class"], BrokerRefuses)}


def use_freeing_transports() -> None:
    """Make kombu use the transports of this module in this process, whatever the form of the broker's address."""
    here = __name__
    TRANSPORT_ALIASES.update(
        redis=f"{here}:FreeingTransport",
        rediss=f"{here}:FreeingTransport",
        sentinel=f"{here}:FreeingSentinelTransport",
    )
