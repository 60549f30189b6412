"""``make compose-test``: build the images, run the whole system in containers, kill parts of it, and finish a job.

Submits a job over REST, kills a worker and Redis (``kill -9`` of the container's process) and stops another worker
while it is collected, waits for the promoted checkpoint under client load, checks what the compose file promises
(users, read-only roots, loopback ports, a password at Redis, a clean end of every process on SIGTERM), and
tears all of it down. Needs a Docker engine and Compose; ``PYTHON_IMAGE`` and ``REDIS_IMAGE`` name other base images.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from demo.driver.client_load import ClientLoad
from demo.world.export import write_pile
from demo.world.vocabulary import Split

ROOT = Path(__file__).parents[1]
PROJECT = "mpa-compose-test"
PARITY, STUDENT = "http://127.0.0.1:8100", "http://127.0.0.1:8102"
TASKS = ("chart", "text", "sttext", "know")
START_SECONDS, JOB_SECONDS = 600.0, 1500.0
ENDS = {"succeeded", "failed", "cancelled"}
SERVICES = ("teacher", "student", "parity", "parity-worker", "trainer", "trainer-worker", "redis")


class Failed(Exception):
    """What was not as expected, in words."""


class Compose:
    """The compose project of one run; ``images`` is the folder that containers see as /images, ``password`` the file
    with that of Redis.
    """

    def __init__(self, images: Path, password: Path, log: Path) -> None:
        own = {"MPA_IMAGES": str(images), "MPA_REDIS_PASSWORD_FILE": str(password), "COMPOSE_PROFILES": "cpu"}
        self._env = {**os.environ, **own}
        self._log = log
        plugin = shutil.which("docker-compose", path=f"{ROOT / '.venv/bin'}:{os.environ['PATH']}")
        self._command = [plugin] if plugin else ["docker", "compose"]

    def run(self, *arguments: str, timeout: float = 1800) -> str:
        """Standard output of ``compose <arguments>``; raises Failed with the end of its errors."""
        done = subprocess.run(
            [*self._command, "-p", PROJECT, *arguments],
            cwd=ROOT,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        with self._log.open("a") as file:
            file.write(f"$ compose {' '.join(arguments)}\n{done.stdout}{done.stderr}\n")
        if done.returncode:
            raise Failed(f"compose {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def containers(self, service: str) -> list[str]:
        return self.run("ps", "-q", service).split()

    def states(self) -> dict[str, str]:
        """State and health by container name."""
        rows = [json.loads(line) for line in self.run("ps", "-a", "--format", "json").splitlines() if line]
        return {row["Name"]: f"{row['State']} {row.get('Health', '')}".strip() for row in rows}


def kill_hard(container: str) -> None:
    """SIGKILL from outside, as the kernel's memory killer does; the restart policy must bring it back."""
    pid = docker("inspect", "-f", "{{.State.Pid}}", container)
    os.kill(int(pid), 9)


def docker(*arguments: str, errors: int = subprocess.PIPE) -> str:
    done = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=errors, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def check_hardening(compose: Compose) -> None:
    """Every container of ours runs as an ordinary user on a read-only root without capabilities."""
    for service in SERVICES:
        for container in compose.containers(service):
            facts = json.loads(docker("inspect", container))[0]
            host, user = facts["HostConfig"], facts["Config"]["User"]
            if not host["ReadonlyRootfs"] or host["CapDrop"] != ["ALL"] or user in ("", "0", "root"):
                raise Failed(f"{service} is not hardened: user {user!r}, {host['ReadonlyRootfs']}, {host['CapDrop']}")
            for port, bound in (facts["NetworkSettings"]["Ports"] or {}).items():
                if any(binding["HostIp"] != "127.0.0.1" for binding in bound or []):
                    raise Failed(f"{service} publishes {port} beyond loopback: {bound}")
    answer = docker("exec", compose.containers("redis")[0], "redis-cli", "ping")
    if "NOAUTH" not in answer:
        raise Failed(f"Redis answers without its password: {answer}")


def submit(images: int, steps: int) -> str:
    settings = yaml.safe_load((ROOT / "demo/job.yaml").read_text())
    settings.pop("images")
    sources = [{"kind": "folder", "path": f"/images/{task}", "tasks": [task]} for task in TASKS]
    body: dict[str, Any] = {**settings, "name": "compose test", "images": sources, "tasks": list(TASKS)}
    body |= {"train": {**settings["train"], "max_steps": steps}, "shard_size": max(4, images // 32)}
    reply = httpx.post(f"{PARITY}/v1/jobs", json=body, timeout=60)
    if reply.status_code != 202:
        raise Failed(f"POST /v1/jobs answered {reply.status_code}: {reply.text}")
    return str(reply.json()["id"])


def status(job: str) -> dict[str, Any] | None:
    """The job's status; None while the API cannot report it (Redis was just killed)."""
    try:
        reply = httpx.get(f"{PARITY}/v1/jobs/{job}", timeout=10)
    except httpx.HTTPError:
        return None
    return reply.json() if reply.status_code == 200 else None


def until(what: str, ready: Any, seconds: float) -> Any:
    """The first true value of ``ready()``; raises Failed when ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = ready()
        if found:
            return found
        time.sleep(0.5)
    raise Failed(f"no {what} after {seconds:.0f} s")


def hurt(compose: Compose, job: str) -> None:
    """Kill a worker while shards are in work, then Redis: both must come back by themselves. Then stop another worker:
    it must give back what it holds.
    """
    shards = until("first shard", lambda: (s := status(job)) and s["shards"]["done"] >= 2 and s["shards"], 600)
    worker, other = compose.containers("parity-worker")[:2]
    kill_hard(worker)
    say(f"killed a parity worker at {shards['done']} of {shards['total']} shards")
    until("restarted worker", lambda: docker("inspect", "-f", "{{.State.Running}}", worker) == "true", 60)
    redis = compose.containers("redis")[0]
    kill_hard(redis)
    say("killed Redis")
    until("answer of the API after Redis was killed", lambda: status(job), 120)
    say(f"the API answers again; restarts: {docker('inspect', '-f', '{{.RestartCount}}', redis)} of Redis")
    done = until("status", lambda: status(job), 60)["shards"]["done"]
    until("further shard", lambda: (s := status(job)) and s["shards"]["done"] > done, 120)
    seconds = stop(other)
    given_back = docker("logs", "--since", "60s", other, errors=subprocess.STDOUT).count("Gave the shard back.")
    say(f"stopped another worker: it ended after {seconds:.1f} s and gave {given_back} shards back")
    if not given_back:
        raise Failed("the worker that was stopped gave no shard back")
    docker("start", other)


def stop(*containers: str) -> float:
    """Stop them as a rollout does, with SIGTERM and the grace of the compose file; the seconds that it took. Raises
    Failed unless all end by themselves.
    """
    started = time.monotonic()
    docker("stop", *containers)
    seconds = time.monotonic() - started
    for container in containers:
        name, code = docker("inspect", "-f", "{{.Name}} {{.State.ExitCode}}", container).split()
        if code != "0":
            raise Failed(f"{name} ended with {code} when it was stopped, after {seconds:.1f} s")
    return seconds


async def through(compose: Compose, images: Path, job: str) -> dict[str, Any]:
    """Kill parts of the system while a client keeps asking the student; returns the job's last status."""
    load = ClientLoad(STUDENT, sorted(images.rglob("*.png"))[:8], gentle_pause=0.2)
    load.start()
    await asyncio.to_thread(hurt, compose, job)
    last = ""

    def ended() -> dict[str, Any] | None:
        nonlocal last
        now = status(job)
        if now and now["state"] != last:
            last = now["state"]
            say(f"{last}: {now['verdicts']}")
        return now if now and now["state"] in ENDS else None

    final: dict[str, Any] = await asyncio.to_thread(until, "end of the job", ended, JOB_SECONDS)
    served = await load.stop()
    say(f"client load: {served.served} answered, {served.failed} failed, versions {dict(served.versions)}")
    if served.failed:
        raise Failed(f"{served.failed} requests to the student failed: {served.errors[:3]}")
    return final


def check_end(final: dict[str, Any], pairs: int) -> None:
    if final["state"] != "succeeded" or final["outcome"] != "promoted":
        raise Failed(f"the job ended as {final['state']} {final['outcome']}: {final['reason']} {final['last_error']}")
    if sum(final["verdicts"].values()) != pairs:
        raise Failed(f"{pairs} pairs were asked for, the verdicts are {final['verdicts']}")
    active = httpx.get(f"{STUDENT}/v1/checkpoints", timeout=10).json()
    if active["active"] != final["checkpoint"]:
        raise Failed(f"the student serves {active['active']}, not {final['checkpoint']}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make compose-test", description=__doc__)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--workers", type=int, default=4, help="containers of the parity worker, at least 2")
    parser.add_argument("--no-build", action="store_true", help="use the images that are there")
    parser.add_argument("--keep", action="store_true", help="leave the containers up")
    options = parser.parse_args()
    log = ROOT / ".mpa" / "compose-test.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    with tempfile.TemporaryDirectory(prefix="mpa-compose-") as folder:
        images, password = Path(folder) / "images", Path(folder) / "password"
        write_pile(images, options.images, 0, Split.TRAIN)
        password.write_text(secrets.token_hex(16))
        Path(folder).chmod(0o755)
        compose = Compose(images, password, log)
        started = time.monotonic()
        try:
            if not options.no_build:
                compose.run("build")
                say(f"built in {time.monotonic() - started:.0f} s")
            started = time.monotonic()
            compose.run("up", "-d", "--no-build", "--wait", "--scale", f"parity-worker={options.workers}")
            say(f"all healthy after {time.monotonic() - started:.0f} s: {compose.states()}")
            check_hardening(compose)
            job = submit(options.images, options.steps)
            say(f"submitted {job}")
            final = asyncio.run(through(compose, images, job))
            check_end(
                final,
                options.images
                * yaml.safe_load((ROOT / "demo/job.yaml").read_text())["annotator"]["questions_per_image"],
            )
            before, after = (final["evaluation"]["overall"][f"agreement_{when}"] for when in ("before", "after"))
            say(f"promoted {final['checkpoint']}: agreement {before:.3f} → {after:.3f}")
            everything = [container for service in SERVICES for container in compose.containers(service)]
            say(f"stopped all {len(everything)} containers in {stop(*everything):.1f} s, each with exit code 0")
            say(f"passed in {time.monotonic() - started:.0f} s")
        except (Failed, httpx.HTTPError, subprocess.SubprocessError) as error:
            with log.open("a") as file:
                file.write(compose.run("logs", "--no-color", "--tail", "400"))
            say(f"FAILED: {error}\nSee {log}.")
            return 1
        finally:
            if not options.keep:
                compose.run("down", "--volumes", "--timeout", "30")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
