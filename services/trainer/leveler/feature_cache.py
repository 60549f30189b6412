"""Image features in memory, and beyond a limit in memory-mapped files that all processes of a training share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

_SUFFIX = ".safetensors"


class FeatureShelf(Mapping[str, Tensor]):
    """Features by image key. At most ``memory_bytes`` of them stay in memory; ``folder`` takes the rest.

    ``writer`` is this process's number, which keeps its files apart from the others'.
    """

    def __init__(self, folder: Path, memory_bytes: int, writer: int = 0) -> None:
        self._folder, self._left, self._writer = folder, memory_bytes, writer
        self._kept: dict[str, Tensor] = {}
        self._filed: dict[str, safe_open] = {}
        self._files = 0

    def put(self, features: Mapping[str, Tensor]) -> None:
        """Keep all of ``features`` in memory, or write all of them to a file."""
        size = sum(tensor.nbytes for tensor in features.values())
        if self._files == 0 and size <= self._left:
            self._left -= size
            self._kept.update(features)
        elif features:
            self._file(features)

    def find_all(self) -> None:
        """Open the files of the other processes."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            self._open(path)

    def clear(self) -> None:
        """Remove the files; what is open stays readable."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def files(self) -> int:
        """How many files this process wrote."""
        return self._files

    def _file(self, features: Mapping[str, Tensor]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._writer:03d}-{self._files:06d}{_SUFFIX}"
        save_file({key: tensor.contiguous() for key, tensor in features.items()}, path)
        self._files += 1
        self._open(path)

    def _open(self, path: Path) -> None:
        opened = safe_open(path, framework="pt")
        self._filed.update(dict.fromkeys(opened.keys(), opened))  # type: ignore[no-untyped-call]

    def __getitem__(self, key: str) -> Tensor:
        if key in self._kept:
            return self._kept[key]
        tensor: Tensor = self._filed[key].get_tensor(key)  # type: ignore[no-untyped-call]
        return tensor

    def __iter__(self) -> Iterator[str]:
        yield from self._kept
        yield from self._filed

    def __len__(self) -> int:
        return len(self._kept) + len(self._filed)
