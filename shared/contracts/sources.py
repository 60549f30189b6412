"""Where a job's images come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.contracts.base import NAME_PATTERN, Contract


class FolderSource(Contract):
    """All image files below a folder of an allowed root, or below a URL inside the artifact store."""

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1)
    recursive: bool = True
    tasks: list[str] | None = Field(None, description="tasks asked about these images; the spec's tasks if absent")


class GlobSource(Contract):
    """Image files by a pattern: of paths below an allowed root, or of URLs inside the artifact store."""

    kind: Literal["glob"] = "glob"
    pattern: str = Field(min_length=1)
    tasks: list[str] | None = None


class ManifestSource(Contract):
    """A JSONL or Parquet file with a column ``image`` (path, relative to the file, or URL) and optionally ``task``.

    It lies below an allowed root, or is named by a URL inside the artifact store.
    """

    kind: Literal["manifest"] = "manifest"
    path: str = Field(min_length=1)
    tasks: list[str] | None = None


class UploadSource(Contract):
    """Images uploaded before through ``POST /v1/uploads`` (a zip, or single images)."""

    kind: Literal["upload"] = "upload"
    upload_id: str = Field(pattern=NAME_PATTERN)
    tasks: list[str] | None = None


class TrafficSource(Contract):
    """What the student's traffic tap has sampled from production requests."""

    kind: Literal["traffic"] = "traffic"
    student: str | None = Field(None, pattern=NAME_PATTERN, description="whose traffic; left out: the job's student's")
    since: AwareDatetime | None = Field(None, description="leave out hours before this one")
    tasks: list[str] | None = None


ImageSource = Annotated[
    FolderSource | GlobSource | ManifestSource | UploadSource | TrafficSource, Field(discriminator="kind")
]


class LeftOut(Contract):
    """Files of a source that are not images of the job."""

    reason: str = Field(description="why, in words")
    files: int = Field(description="how many files")
    example: str = Field(description="the first of them")


class UploadReceipt(Contract):
    upload_id: str
    images: int
    bytes: int
    left_out: list[LeftOut] = Field([], description="files that are not taken, by reason")


class ManifestEntry(Contract):
    """One line of ``jobs/<id>/manifest.jsonl``: an image and the tasks asked about it, in manifest order (index 0, 1,
    …).
    """

    index: int = Field(ge=0)
    image: str = Field(description="absolute path or URL")
    tasks: list[str]
