"""How the processes of one training on several machines find each other: the first announces what is trained, and the
others start their share of it.

They meet at one of torch's stores, whose address torchrun chooses. The store holds a few lines of JSON. Nothing that is
read from it is executed.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from services.trainer.launch.child import start_step
from services.trainer.run_config import RunConfig, save
from shared.errors import InvalidInput
from shared.processes.ports import free_port

log = logging.getLogger(__name__)

MEET_SECONDS = 300.0
FOREVER = timedelta(days=365)
FAREWELL_SECONDS = 30.0
LOOK_EVERY = 0.5
# The variables of torchrun that make a process act as one of several.
_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """Process ``index`` of ``count``, ``local`` of ``beside`` on its machine. The first listens at ``host:port``."""

    index: int
    count: int
    local: int
    beside: int
    host: str
    port: int

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str]) -> Place:
        """Take torchrun's variables out of ``environment``: processes that are started later must not see them.

        Raises InvalidInput.
        """
        if environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            raise InvalidInput(
                "torchrun shares its own store with this process, and it may still hold messages of an earlier start: "
                "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun."
            )
        found = [environment.pop(name, "") for name in _TORCHRUN]
        if not all(found):
            raise InvalidInput("Start this with torchrun: torchrun … -m services.trainer.nodes JOB.")
        rank, local, count, beside, host, port = found
        return cls(int(rank), int(count), int(local), int(beside), host, int(port))

    def environment(self, port: int) -> dict[str, str]:
        """The variables of a process that this one starts, whose group meets at ``port`` of the first machine."""
        values = (self.index, self.local, self.count, self.beside, self.host, port)
        return dict(zip(_TORCHRUN, map(str, values), strict=True))


class Together:
    """The side of the first process: it announces what to train, and when all is over."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._store = TCPStore(place.host, place.port, is_master=True, wait_for_workers=False)
        self._number = 0

    def announce(self, config: RunConfig) -> dict[str, str]:
        """Let the others start their share of ``config``. Returns the environment of our own share."""
        port = free_port("")
        told = {"config": TypeAdapter(RunConfig).dump_python(config, mode="json"), "port": port}
        self._store.set(_line(self._number), json.dumps(told))
        self._number += 1
        return self.place.environment(port)

    def over(self, code: int) -> None:
        """Tell the others to end with ``code``, and wait a little until they have read it: the store ends with us."""
        self._store.set(_line(self._number), json.dumps(code))
        waits_for = [_farewell(index) for index in range(1, self.place.count)]
        deadline = time.monotonic() + FAREWELL_SECONDS
        while not all(self._store.check([name]) for name in waits_for) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)


def take_part(place: Place) -> int:
    """The side of the other processes: start our share of each announced training, until all is over. Returns the code
    to end with.

    Raises torch's DistStoreError or DistNetworkError if the first process has ended, or never started.
    """
    store = TCPStore(place.host, place.port, is_master=False, timeout=timedelta(seconds=MEET_SECONDS))
    store.set_timeout(FOREVER)
    number = 0
    while not isinstance(words := json.loads(store.get(_line(number))), int):
        number += 1
        config = TypeAdapter(RunConfig).validate_python(words["config"])
        log.info("starting share %d of %d", place.index + 1, place.count, extra={"job_id": config.job_id})
        _share(config, place.environment(words["port"]), partial(store.check, [_line(number)]))
    store.set(_farewell(place.index), "1")
    return words


def _share(config: RunConfig, environment: dict[str, str], is_over: Callable[[], bool]) -> None:
    """Run it to its end. If the first process has left this training, end the share: its group would never meet."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.json"
        save(file, config)
        line = [sys.executable, "-m", "services.trainer.run", "train", str(file)]
        child = start_step(line, environment, config.threads)
        while child.running:
            if is_over():
                child.kill()
            time.sleep(LOOK_EVERY)
        log.info("the share %s", child.ending, extra={"job_id": config.job_id})


def _line(number: int) -> str:
    return f"run/{number}"


def _farewell(index: int) -> str:
    return f"bye/{index}"
