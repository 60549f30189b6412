"""``torchrun … -m services.trainer.nodes JOB``: the command that manifests name."""

import sys

from services.trainer.worker.nodes import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
