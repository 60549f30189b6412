"""Does a worker of an earlier commit do the jobs of this commit's API? If not, one of this commit joins it.

git worktree add ../old <commit>
python -m tests.upgrade.side_by_side ../old
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import httpx

from tests.upgrade.record import Recording, until

HERE = Path(__file__).parents[2]
PATIENCE = 20.0


def try_it(checkout: Path, folder: Path) -> None:
    system = Recording(checkout, folder)
    try:
        system.start("-m", "services.parity", checkout=HERE)
        until(lambda: httpx.get(f"{system.url}/readyz", timeout=5).status_code == 200)
        system.start("-m", "services.parity.worker")
        job_id = system.submit("pile")
        deadline = time.monotonic() + PATIENCE
        while system.record(job_id)["state"] != "training" and time.monotonic() < deadline:
            time.sleep(0.2)
        state = system.record(job_id)["state"]
        print(f"with a worker of {checkout} alone: {state}")
        if state != "training":
            system.start("-m", "services.parity.worker", checkout=HERE)
            until(lambda: system.record(job_id)["state"] == "training", 300)
            print(f"with a worker of this commit next to it: training after {time.monotonic() - deadline:.0f} s")
        attempts = [value for name, value in system.record(job_id).items() if name.startswith("shard:")]
        print("\n".join(attempts))
    finally:
        system.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpa-old-") as scratch:
        try_it(given.checkout.absolute(), Path(scratch))
