"""No GPU is at hand here: driver and torch are scripted, with the functions of their documentation."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from shared.telemetry.gpu_memory import GpuMemory

GIB = 2**30
Told = dict[tuple[str, str], float]


class NVMLError(Exception):
    pass


class Driver:
    """NVML with three GPUs; the third cannot tell its memory, as where it is the machine's."""

    NVMLError = NVMLError

    def __init__(self, present: bool = True) -> None:
        self._present = present
        self.started = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.started += 1
        if not self._present:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= 3:
            raise NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        if uuid != "GPU-one":
            raise NVMLError("Not Found")
        return 1

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        if handle == 2:
            raise NVMLError("Not Supported")
        used = (handle + 1) * GIB
        return SimpleNamespace(total=80 * GIB, used=used, free=80 * GIB - used)


class Cuda:
    """torch.cuda with one GPU."""

    def __init__(self, initialized: bool) -> None:
        self._initialized = initialized

    def is_initialized(self) -> bool:
        return self._initialized

    def device_count(self) -> int:
        return 1

    def mem_get_info(self, gpu: int) -> tuple[int, int]:
        return 10 * GIB, 24 * GIB

    def memory_allocated(self, gpu: int) -> int:
        return 3

    def memory_reserved(self, gpu: int) -> int:
        return 5


def told(monkeypatch: pytest.MonkeyPatch, driver: Driver | None, cuda: Cuda | None = None, **visible: str) -> Told:
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setitem(sys.modules, "torch", cuda and SimpleNamespace(cuda=cuda))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for devices in visible.values():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    return {
        (sample.labels["gpu"], sample.labels["kind"]): sample.value
        for family in GpuMemory().collect()
        for sample in family.samples
    }


def test_without_a_driver_and_without_torch_there_is_no_such_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, None) == told(monkeypatch, Driver(present=False)) == {}
    assert told(monkeypatch, None, Cuda(initialized=False)) == {}


def test_the_driver_tells_of_gpus_that_only_a_child_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, Driver())
    assert {gpu for gpu, _ in found} == {"0", "1"}, "the third cannot tell"
    assert [found["1", kind] / GIB for kind in ("total", "used", "free")] == [80, 2, 78]
    assert ("0", "allocated") not in found


def test_of_a_gpu_that_torch_uses_both_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, Driver(), Cuda(initialized=True), devices="0")
    assert found["0", "total"] == 80 * GIB, "the driver's word"
    assert (found["0", "allocated"], found["0", "reserved"], len(found)) == (3, 5, 5)


def test_without_the_driver_s_library_torch_tells_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, Driver(present=False), Cuda(initialized=True))
    assert [found["0", kind] / GIB for kind in ("total", "used", "free")] == [24, 14, 10]


@pytest.mark.parametrize(
    ("visible", "used"),
    [
        ("1,0", {"0": 2, "1": 1}),
        ("GPU-one", {"0": 2}),
        ("0, -1, 1", {"0": 1}),
        ("", {}),
        ("-1", {}),
        ("NoDevFiles", {}),
        ("1,7,0", {"0": 2}),
    ],
)
def test_gpus_are_numbered_as_cuda_shows_them(
    visible: str, used: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = told(monkeypatch, Driver(), devices=visible)
    assert {gpu: value / GIB for (gpu, kind), value in found.items() if kind == "used"} == used


def test_the_driver_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(present=False)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setitem(sys.modules, "torch", None)
    memory = GpuMemory()
    assert [list(memory.collect()) for _ in range(3)] == [[], [], []]
    assert driver.started == 1
