"""Where a job's images may be: allowed folders of this machine, and the artifact store."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.parity.images.access import allowed, store_key
from shared.contracts import FolderSource, GlobSource, ManifestSource
from shared.errors import Forbidden, InvalidInput
from shared.store import Store
from tests.services.parity.images.listing import in_store


@pytest.mark.parametrize("url", ["s3://other/pile", "https://host/list.jsonl", "file:///etc", "STORE-2/pile"])
def test_urls_outside_the_store_are_forbidden(pile_in_store: Store, url: str) -> None:
    url = url.replace("STORE", pile_in_store.url)
    for source in (FolderSource(path=url), GlobSource(pattern=f"{url}/*.png"), ManifestSource(path=url)):
        with pytest.raises(Forbidden, match=r"outside the artifact store .* \(MPA_STORE\)"):
            in_store(pile_in_store, source)


def test_a_path_inside_an_allowed_folder_is_resolved(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert allowed(tmp_path / "link" / "b.png", [tmp_path / "elsewhere", root]) == root / "b.png"
    assert allowed(root / "deep" / ".." / "b.png", [tmp_path / "link"]) == root / "b.png"


@pytest.mark.parametrize("path", ["../root-2/x.png", "../x.png", "out/x.png", "/etc/passwd"])
def test_a_path_that_leads_out_of_the_folders_is_forbidden(root: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "root-2").mkdir()
    (root / "out").symlink_to(tmp_path)
    for file in (tmp_path / "root-2" / "x.png", tmp_path / "x.png"):
        file.write_bytes(b"x")
    with pytest.raises(Forbidden, match=r"outside the allowed image folders \(.*root\).*MPA_IMAGE_ROOTS"):
        allowed(root / path, [root])


def test_a_path_that_does_not_exist_is_named(root: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.png does not exist on the machine"):
        allowed(root / "gone.png", [root])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("STORE", ""),
        ("STORE/", ""),
        ("STORE/piles/may/", "piles/may"),
        ("STORE/a..b/c.png", "a..b/c.png"),
        ("/piles/may", None),
        ("piles/may", None),
        ("a:b.png", None),
    ],
)
def test_a_url_of_the_store_is_a_key_and_a_path_is_not(pile_in_store: Store, name: str, key: str | None) -> None:
    assert store_key(name.replace("STORE", pile_in_store.url), pile_in_store) == key


def test_a_url_that_climbs_is_refused(pile_in_store: Store) -> None:
    with pytest.raises(InvalidInput, match=r"contains '\.\.'"):
        store_key(f"{pile_in_store.url}/piles/../../x", pile_in_store)
