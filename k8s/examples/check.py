"""Whether torchrun's workers find each other: sums one tensor over all of them."""

import os

import torch
import torch.distributed as dist

if __name__ == "__main__":
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    device = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
    total = torch.ones(1, device=device)
    dist.all_reduce(total)
    dist.destroy_process_group()
    workers, expected = int(total.item()), int(os.environ["EXPECTED_WORKERS"])
    print(f"{workers} of {expected} workers took part")
    raise SystemExit(workers != expected)
