"""The system that a storm hits: real Redis, APIs and workers in processes of their own, scripted models, small disk."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis
from PIL import Image

from services.supervisor.redis_command import redis_command
from shared.processes.ports import free_port
from shared.store import Store
from tests.faults.storm.proxy import Proxy
from tests.lifetime import die_with_parent
from tests.polling import wait_until
from tests.services.parity.conftest import TASKS

LEASE = 6.0
READY_SECONDS = 90.0
RESTART_SECONDS = 0.5
DISK_MEGABYTES = 32
DISK_MEGABYTES_WITH_CHECKPOINTS = 512


@dataclass
class Program:
    """A process that the world starts again when it dies, as a supervisor would, unless it is ``held`` down."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    held: bool = False
    starts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self.starts += 1

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def hold(self) -> None:
        """Kill it with -9 and leave it dead."""
        self.held = True
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def let_go(self) -> None:
        self.held = False


class World:
    """Two APIs, two workers, one Redis, one model server. Use it as a context manager.

    With ``training`` there is also a trainer and a student service with the demo's real model, which jobs train and
    promote. The workers still ask the scripted student, so that a set does not depend on what was promoted. ``call``:
    seconds that a call to a scripted model takes.
    """

    def __init__(self, folder: Path, images: int = 120, training: bool = False, call: float = 0.25) -> None:
        self.folder, self.training = folder, training
        self.pile = folder / "pile"
        self.pile.mkdir(parents=True)
        for number in range(images):
            (self.pile / f"{number:05d}.png").write_bytes(picture(number))
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.small_disk = self._mount()
        self.redis_port, models_port = free_port(), free_port()
        self.to_redis, self.to_models = Proxy(self.redis_port), Proxy(models_port)
        self.programs: dict[str, Program] = {}
        self._add("redis", redis_command(self._redis_folder(), self.redis_port))
        self._add("models", [sys.executable, "-m", "tests.faults.storm.models", str(models_port), str(call)])
        self.models_url = f"http://127.0.0.1:{models_port}"
        self.api_urls = []
        for number in range(2):
            port = free_port()
            self.api_urls.append(f"http://127.0.0.1:{port}")
            self._add(f"api-{number}", [sys.executable, "-m", "services.parity"], MPA_PARITY_PORT=str(port))
        for number in range(2):
            self._add(f"worker-{number}", [sys.executable, "-m", "services.parity.worker"])
        self.student_url = ""
        if training:
            port = free_port()
            self.student_url = f"http://127.0.0.1:{port}"
            self._add("student", [sys.executable, "-m", "services.student"], MPA_STUDENT_PORT=str(port))
            self._add("trainer", [sys.executable, "-m", "services.trainer.worker"], MPA_STUDENT_URL=self.student_url)
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep_alive, name="keeper", daemon=True)

    def __enter__(self) -> World:
        self.programs["redis"].start()
        with redis.Redis(port=self.redis_port) as client:
            wait_until(lambda: _pings(client), READY_SECONDS)
        for name, program in self.programs.items():
            if name != "redis":
                program.start()
        services = [*self.api_urls, self.student_url] if self.training else self.api_urls
        for url in [f"{self.models_url}/health", *(f"{url}/readyz" for url in services)]:
            wait_until(lambda url=url: _answers(url), READY_SECONDS)  # type: ignore[misc]
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._keeper.join(10)
        for program in self.programs.values():
            program.send(signal.SIGCONT)
            program.hold()
        self.to_redis.stop()
        self.to_models.stop()
        if self.small_disk:
            subprocess.run(["umount", "-l", str(self.disk)], check=False)

    @property
    def store(self) -> Store:
        return Store((self.disk / "store").as_uri())

    def named(self, kind: str) -> list[Program]:
        return [program for name, program in self.programs.items() if name.startswith(kind)]

    def redis_client(self) -> redis.Redis:
        """Past the proxy."""
        return redis.Redis(port=self.redis_port, socket_timeout=5, socket_connect_timeout=5)

    def wipe_redis(self) -> None:
        """Remove the files of a Redis that is held down."""
        shutil.rmtree(self._redis_folder())
        self._redis_folder()

    def heal(self) -> None:
        """End everything that faults may have left behind, also those that got into each other's way. Blocks."""
        for program in self.programs.values():
            program.let_go()
            program.send(signal.SIGCONT)
        self.to_redis.mend()
        self.to_models.mend()
        if self.small_disk:
            self.remount("rw")
            self.filler.unlink(missing_ok=True)
        with self.redis_client() as client:
            wait_until(lambda: _is_well(client), READY_SECONDS)

    @property
    def filler(self) -> Path:
        """The file that takes all the room on the disk."""
        return self.disk / "filler"

    def remount(self, mode: str) -> None:
        """``rw`` or ``ro``. A disk on which a file is being written cannot be made read-only, so it may take tries."""
        for _ in range(50):
            command = ["mount", "-o", f"remount,{mode}", str(self.disk)]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return

    def _keep_alive(self) -> None:
        while not self._over.wait(RESTART_SECONDS):
            for program in self.programs.values():
                if not program.held and program.process is not None and program.process.poll() is not None:
                    program.start()

    def _add(self, name: str, command: Sequence[str], **settings: str) -> None:
        environment = {**os.environ, **self._settings(), **settings}
        self.programs[name] = Program(name, command, environment, self.folder / f"{name}.log")

    def _settings(self) -> dict[str, str]:
        tasks = self.folder / "tasks.yaml"
        tasks.write_text(TASKS)
        models = f"http://127.0.0.1:{self.to_models.port}/{'plain-' if self.training else ''}"
        return {
            "MPA_DATA_DIR": str(self.folder / "data"),
            "MPA_STORE": (self.disk / "store").as_uri(),
            "MPA_REDIS_URL": f"redis://127.0.0.1:{self.to_redis.port}/0",
            "MPA_TEACHER_URL": f"{models}teacher",
            "MPA_STUDENT_URL": f"{models}student",
            "MPA_TRAIN_THREADS": "1",
            "MPA_TRAIN_REPORT_TO": "[]",
            "MPA_TASKS_FILE": str(tasks),
            "MPA_IMAGE_ROOTS": json.dumps([str(self.folder)]),
            "MPA_LEASE": str(LEASE),
            "MPA_RECONCILE_EVERY": "1",
            "MPA_CALL_TIMEOUT": "5",
            "MPA_WORKER_CONCURRENCY": "2",
            "MPA_CALLS_IN_FLIGHT": "16",
            "PYTHONUNBUFFERED": "1",
        }

    def _redis_folder(self) -> Path:
        folder = self.folder / "redis"
        folder.mkdir(exist_ok=True)
        return folder

    def _mount(self) -> bool:
        """Put the store on a disk small enough to fill. False where this process may not mount one."""
        size = DISK_MEGABYTES_WITH_CHECKPOINTS if self.training else DISK_MEGABYTES
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(self.disk)]
        if os.geteuid() != 0:
            return False
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _is_well(client: redis.Redis) -> bool:
    try:
        return bool(client.config_set("maxmemory", 0) and client.replicaof("NO", "ONE"))
    except redis.RedisError:
        return False


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        time.sleep(0.1)
        return False


def picture(number: int) -> bytes:
    """A small image of a colour of its own."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, number // 65536)).save(file, "PNG")
    return file.getvalue()
