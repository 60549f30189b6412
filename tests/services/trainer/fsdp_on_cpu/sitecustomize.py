"""Put on PYTHONPATH by a test: lets accelerate shard on CPUs too, which it refuses although torch can.

accelerate asks the kind of the processes before it looks at what FSDP should do, and forgets about FSDP for CPUs.
"""

from __future__ import annotations

from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

_init = PartialState.__init__


def _as_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
    _init(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = _as_gpus  # type: ignore[method-assign]
