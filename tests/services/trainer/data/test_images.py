"""Images of a set are opened again only if they are still what the teacher was asked about."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from services.trainer.data.images import CheckedImages
from shared.errors import InvalidInput
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.store import Store
from tests.services.trainer.small_set import picture


@pytest.fixture
def images(store: Store) -> CheckedImages:
    files = ImageFiles(store, roots=None, max_bytes=1 << 20, allow_urls=False, timeout=5.0)
    return CheckedImages(files, ImageLimits(1 << 20, 1 << 20, 8))


def test_the_same_file_is_opened(images: CheckedImages, tmp_path: Path) -> None:
    path = picture(tmp_path, "red", 1)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert images.read(str(path), digest) == path.read_bytes()
    assert (images.open(str(path), digest).mode, images.open(str(path)).size) == ("RGB", (96, 96))


def test_a_file_that_changed_is_refused(images: CheckedImages, tmp_path: Path) -> None:
    path = picture(tmp_path, "red", 1)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(picture(tmp_path, "blue", 2).read_bytes())
    with pytest.raises(InvalidInput, match=r"changed after the teacher was asked about it.*put the old file back"):
        images.open(str(path), digest)


def test_a_file_that_is_gone_or_damaged_is_refused(images: CheckedImages, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.png can no longer be read .*put it back"):
        images.open(str(tmp_path / "gone.png"))
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(InvalidInput, match=r"damaged\.png cannot be decoded"):
        images.open(str(damaged))
