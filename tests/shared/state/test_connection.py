"""Every form of MPA_REDIS_URL reaches a real server for the state, the queue and the presence of workers alike."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from kombu.exceptions import OperationalError

from services.cli.doctor.backing import redis_findings
from services.supervisor.probes import redis_probe
from services.supervisor.redis_command import HOST, redis_command
from shared.processes.ports import free_port
from shared.queue import COLLECT_QUEUE, enqueue_shard, make_celery, queue_depth
from shared.settings import CommonSettings
from shared.state import JobStore
from shared.state.connection import open_redis
from shared.state.presence import waiting_messages
from shared.state.replicas import ReplicaBoard
from tests.lifetime import die_with_parent
from tests.polling import wait_until
from tests.tls_front import Certificates, make_certificates, tls_in_front_of

USER, PASSWORD = "mpa-user", "p/@:#% ä"
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}"


class Server:
    """A Redis that asks for a user's password, on a port and on a socket."""

    def __init__(self, folder: Path) -> None:
        self.port, self.socket = free_port(), folder / "redis.sock"
        self.process = start([*redis_command(folder, self.port), "--unixsocket", str(self.socket)])
        wait_until(lambda: redis_answers(f"redis://{HOST}:{self.port}"), 30)
        with redis.Redis(HOST, self.port) as client:
            client.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
            client.execute_command("ACL", "SETUSER", "default", "off")


def start(command: list[str]) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, preexec_fn=die_with_parent())


def redis_answers(url: str) -> bool:
    try:
        with open_redis(url, 1.0) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("redis"))
    yield running
    running.process.terminate()
    running.process.wait(10)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_port(server: Server, certificates: Certificates) -> Iterator[int]:
    with tls_in_front_of(server.port, certificates) as (port, _):
        yield port


@pytest.fixture(scope="module")
def sentinel_port(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, port = tmp_path_factory.mktemp("sentinel"), free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind {HOST}\ndir {folder}\nsentinel monitor main {HOST} {server.port} 1\n"
        f'sentinel auth-user main {USER}\nsentinel auth-pass main "{PASSWORD}"\nrequirepass watch\n'
    )
    process = start([redis_command(folder, port)[0], str(config), "--sentinel"])
    wait_until(lambda: redis_answers(f"redis+sentinel://{LOGIN}@{HOST}:{port}/main?sentinel_password=watch"), 30)
    yield port
    process.terminate()
    process.wait(10)


@pytest.fixture(params=["tcp", "unix", "tls", "sentinel", "one sentinel of two is away"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    """The same database in every form."""
    if request.param == "unix":
        return f"unix://{LOGIN}@{server.socket}?db=3"
    if request.param == "tls":
        port, made = request.getfixturevalue("tls_port"), request.getfixturevalue("certificates")
        return f"rediss://{LOGIN}@{HOST}:{port}/3?ssl_ca_certs={made.authority}"
    if request.param.endswith(("sentinel", "away")):
        away = f"{HOST}:{free_port()}," if request.param.endswith("away") else ""
        port = request.getfixturevalue("sentinel_port")
        return f"redis+sentinel://{LOGIN}@{away}{HOST}:{port}/main/3?sentinel_password=watch"
    return f"redis://{LOGIN}@{HOST}:{server.port}/3"


async def test_all_users_of_redis_reach_the_same_database(url: str, server: Server) -> None:
    app = make_celery(CommonSettings(redis_url=url))
    with redis.Redis(HOST, server.port, 3, username=USER, password=PASSWORD) as plain:
        plain.flushdb()
        async with aclosing(JobStore.from_url(url)) as jobs:
            await jobs.ping()
        enqueue_shard(app, "job-1", 0)
        assert plain.llen(COLLECT_QUEUE) == queue_depth(app, COLLECT_QUEUE) == waiting_messages(url)["parity"] == 1
        # As a worker takes it: through the connection that waits for messages, not the one that sends them.
        with app.connection_for_read() as connection, closing(connection.SimpleQueue(COLLECT_QUEUE)) as queue:
            message = queue.get(timeout=10)
            message.ack()
        assert message.decode()[0] == ["job-1", 0]
        assert plain.llen(COLLECT_QUEUE) == 0
    app.close()
    async with aclosing(ReplicaBoard.from_url(url, "student")) as board:
        await board.tell()
    assert await redis_probe(url)() is None
    assert "answers" in (await redis_findings(url, 5.0))[0].found


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken", ["unknown authority", "other host"], ids=["of an unknown authority", "for another host"]
)
async def test_a_certificate_that_cannot_be_verified_ends_every_connection(
    broken: str, server: Server, certificates: Certificates
) -> None:
    with tls_in_front_of(server.port, certificates) as (port, seen):
        url = {
            "unknown authority": f"rediss://{LOGIN}@{HOST}:{port}/3",
            "other host": f"rediss://{LOGIN}@localhost:{port}/3?ssl_ca_certs={certificates.authority}",
        }[broken]
        app = make_celery(CommonSettings(redis_url=url))
        with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
            queue_depth(app, COLLECT_QUEUE)
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            waiting_messages(url)
        async with aclosing(JobStore.from_url(url)) as jobs:
            with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                await jobs.ping()
        assert "CERTIFICATE_VERIFY_FAILED" in str(await redis_probe(url)())
        assert seen == [], "the password was sent to a server that nobody vouches for"


async def test_verification_can_be_switched_off_for_all_at_once(tls_port: int) -> None:
    url = f"rediss://{LOGIN}@{HOST}:{tls_port}/3?ssl_cert_reqs=none"
    app = make_celery(CommonSettings(redis_url=url))
    assert queue_depth(app, COLLECT_QUEUE) == waiting_messages(url)["parity"]
    async with aclosing(JobStore.from_url(url)) as jobs:
        await jobs.ping()


@pytest.mark.slow
async def test_a_wrong_password_is_said(server: Server) -> None:
    url = f"redis://{USER}:wrong@{HOST}:{server.port}/3"
    app = make_celery(CommonSettings(redis_url=url))
    with pytest.raises(OperationalError, match="invalid username-password pair"):
        queue_depth(app, COLLECT_QUEUE)
    assert "invalid username-password pair" in str(await redis_probe(url)())
