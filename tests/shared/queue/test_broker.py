"""Messages say when they were sent and to which trace they belong, on a real Redis."""

from __future__ import annotations

import json

import pytest
import redis

from shared.queue import (
    COLLECT_QUEUE,
    TRACE_HEADER,
    enqueue_shard,
    make_celery,
    oldest_message_age,
    queue_depth,
    set_aside_damaged,
)
from shared.settings import CommonSettings

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_oldest_message_s_age_is_that_of_the_next_one_to_be_taken(redis_url: str) -> None:
    app = make_celery(CommonSettings(redis_url=redis_url))
    assert oldest_message_age(app, COLLECT_QUEUE) == 0.0
    enqueue_shard(app, "j1", 0, TRACE)
    enqueue_shard(app, "j1", 1)
    with redis.Redis.from_url(redis_url) as client:
        oldest = json.loads(client.lindex(COLLECT_QUEUE, -1))
        assert oldest["headers"]["argsrepr"] == "['j1', 0]" and oldest["headers"][TRACE_HEADER] == TRACE
        oldest["headers"]["mpa_sent_at"] -= 100
        client.lset(COLLECT_QUEUE, -1, json.dumps(oldest))
    assert queue_depth(app, COLLECT_QUEUE) == 2
    assert 100 <= oldest_message_age(app, COLLECT_QUEUE) < 160


def test_a_message_of_an_older_release_counts_as_just_sent(redis_url: str) -> None:
    app = make_celery(CommonSettings(redis_url=redis_url))
    app.send_task("parity.collect_shard", args=["j1", 0], queue=COLLECT_QUEUE)
    assert oldest_message_age(app, COLLECT_QUEUE) == 0.0


@pytest.mark.parametrize("key", [COLLECT_QUEUE, f"_kombu.binding.{COLLECT_QUEUE}", "unacked", "unacked_index"])
def test_a_key_of_the_wrong_type_is_set_aside(redis_url: str, key: str) -> None:
    app = make_celery(CommonSettings(redis_url=redis_url))
    enqueue_shard(app, "j1", 0)
    assert set_aside_damaged(app, COLLECT_QUEUE) == []
    with redis.Redis.from_url(redis_url) as client:
        client.delete(key)
        client.set(key, "damage")
        assert set_aside_damaged(app, COLLECT_QUEUE) == [key]
        assert client.get(f"mpa:damaged:{key}") == b"damage"
        assert 0 < client.ttl(f"mpa:damaged:{key}") <= 7 * 86400
    before = queue_depth(app, COLLECT_QUEUE)
    enqueue_shard(app, "j1", 1)
    assert queue_depth(app, COLLECT_QUEUE) == before + 1
