"""A batch plan as a data loader: each process takes its share of the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from accelerate.data_loader import prepare_data_loader
from torch import device
from torch.utils.data import DataLoader, Sampler

from services.trainer.data.batch_plan import BatchPlan
from services.trainer.data.dataset import TrainingSet
from services.trainer.launch.ranks import ALONE, Ranks


class PlanSampler(Sampler[list[int]]):
    """This process's share of the first ``batches`` batches of a plan, as a batch sampler.

    Every ``ranks.count``-th sample of a batch, so that shares hold the same mixture, and differ by at most one sample.
    """

    def __init__(self, plan: BatchPlan, batches: int, ranks: Ranks = ALONE) -> None:
        if plan.batch_size < ranks.count:
            raise ValueError(f"a batch of {plan.batch_size} cannot be shared by {ranks.count} processes")
        self.plan, self.ranks = plan, ranks
        self.batch_size = plan.batch_size
        self.drop_last = False
        self._batches = batches

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        first, step = self.ranks.index, self.ranks.count
        return (self.plan.batch(number)[first::step] for number in range(self._batches))

    def weight(self, samples: int) -> float:
        """Weight of a share's mean loss over ``samples`` that makes the mean over the processes that of the batch."""
        return samples * self.ranks.count / self.batch_size


def plan_loader(
    data: TrainingSet, sampler: PlanSampler, collator: Callable[[Any], Any], target: device
) -> DataLoader[Any]:
    """Batches on ``target``. The sampler already splits them by process, so accelerate must not."""
    loader: DataLoader[Any] = DataLoader(
        data,  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=collator,
        num_workers=0,
        pin_memory=target.type == "cuda",
    )
    prepared: DataLoader[Any] = prepare_data_loader(
        loader, target, num_processes=1, process_index=0, put_on_device=True, non_blocking=target.type == "cuda"
    )
    return prepared
