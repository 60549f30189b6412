"""Where a job's images come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.contracts.base import NAME_PATTERN, Contract


class FolderSource(Contract):
    """All image files below a folder of an allowed root, or below a URL inside the artifact store."""

    kind: Literal["folder"] = Field("folder", description="always folder")
    path: str = Field(min_length=1, description="folder below an allowed root, or a URL inside the artifact store")
    recursive: bool = Field(True, description="whether folders inside it are searched too")
    tasks: list[str] | None = Field(None, description="tasks asked about these images; the spec's tasks if absent")


class GlobSource(Contract):
    """Image files by a pattern: of paths below an allowed root, or of URLs inside the artifact store."""

    kind: Literal["glob"] = Field("glob", description="always glob")
    pattern: str = Field(
        min_length=1, description="pattern of paths below an allowed root, or of URLs inside the artifact store"
    )
    tasks: list[str] | None = Field(None, description="tasks asked about these images; null: the job's tasks")


class ManifestSource(Contract):
    """A JSONL or Parquet file with a column ``image`` (path, relative to the file, or URL) and optionally ``task``.

    It lies below an allowed root, or is named by a URL inside the artifact store.
    """

    kind: Literal["manifest"] = Field("manifest", description="always manifest")
    path: str = Field(min_length=1, description="path below an allowed root, or a URL inside the artifact store")
    tasks: list[str] | None = Field(None, description="tasks asked about these images; null: the job's tasks")


class UploadSource(Contract):
    """Images uploaded before through ``POST /v1/uploads`` (a zip, or single images)."""

    kind: Literal["upload"] = Field("upload", description="always upload")
    upload_id: str = Field(pattern=NAME_PATTERN, description="id from the answer to the upload")
    tasks: list[str] | None = Field(None, description="tasks asked about these images; null: the job's tasks")


class TrafficSource(Contract):
    """What the student's traffic tap has sampled from production requests."""

    kind: Literal["traffic"] = Field("traffic", description="always traffic")
    student: str | None = Field(None, pattern=NAME_PATTERN, description="whose traffic; left out: the job's student's")
    since: AwareDatetime | None = Field(None, description="leave out hours before this one")
    tasks: list[str] | None = Field(None, description="tasks asked about these images; null: the job's tasks")


ImageSource = Annotated[
    FolderSource | GlobSource | ManifestSource | UploadSource | TrafficSource, Field(discriminator="kind")
]


class LeftOut(Contract):
    """Files of a source that are not images of the job."""

    reason: str = Field(description="why, in words")
    files: int = Field(description="how many files")
    example: str = Field(description="the first of them")


class UploadReceipt(Contract):
    upload_id: str = Field(description="names the upload in a job's images")
    images: int = Field(description="images that were stored")
    bytes: int = Field(description="their size in bytes")
    left_out: list[LeftOut] = Field([], description="files that are not taken, by reason")


class ManifestEntry(Contract):
    """One line of ``jobs/<id>/manifest.jsonl``: an image and the tasks asked about it, in manifest order (index 0, 1,
    …).
    """

    index: int = Field(ge=0)
    image: str = Field(description="absolute path or URL")
    tasks: list[str]
