"""Workers say that they live, for as long as they do."""

from __future__ import annotations

import redis

from shared.compatibility import RELEASE
from shared.queue import COLLECT_QUEUE, TRAIN_QUEUE, make_celery
from shared.settings import CommonSettings
from shared.state.presence import QUEUES, living_workers, present, waiting_messages
from tests.embedded_redis import start_embedded_redis
from tests.polling import wait_until


def test_a_worker_is_there_until_it_ends(redis_url: str) -> None:
    with present(redis_url, "parity") as info, present(redis_url, "trainer"):
        wait_until(lambda: len(living_workers(redis_url)) == 2, 10)
        found = {worker.kind: worker for worker in living_workers(redis_url)}
        assert (found["parity"].id, found["parity"].release) == (info.id, RELEASE)
    assert living_workers(redis_url) == []


def test_one_that_was_killed_is_forgotten(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.sadd("mpa:workers", "parity-killed")  # its key has expired
        with present(redis_url, "parity"):
            wait_until(lambda: len(living_workers(redis_url)) == 1, 10)
            assert client.scard("mpa:workers") == 1


def test_a_redis_that_comes_back_hears_of_it(tmp_path, free_port: int) -> None:  # type: ignore[no-untyped-def]
    with present(f"redis://127.0.0.1:{free_port}/0", "parity", every=0.05):
        server = start_embedded_redis(tmp_path, port=free_port)
        try:
            wait_until(lambda: len(living_workers(server.url)) == 1, 10)
        finally:
            server.stop()


def test_the_queues_are_those_of_the_tasks(redis_url: str) -> None:
    assert QUEUES == {"parity": COLLECT_QUEUE, "trainer": TRAIN_QUEUE}
    make_celery(CommonSettings(redis_url=redis_url)).send_task("x", queue=TRAIN_QUEUE)
    assert waiting_messages(redis_url) == {"parity": 0, "trainer": 1}
