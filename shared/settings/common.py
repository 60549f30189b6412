"""What several services read: the settings classes that those of the services are made of.

Durations take seconds (``MPA_LEASE=30``) or ISO 8601 (``PT30S``); sizes take ``25MB``, ``1GiB``.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from shared.settings.checks import check_setting
from shared.settings.redis_url import add_password


def _seconds(value: object) -> object:
    """Read plain numbers as seconds, as people write them in environment variables."""
    if isinstance(value, str):
        try:
            return timedelta(seconds=float(value))
        except (ValueError, OverflowError):  # not a number; infinity
            return value
    return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]


def size(text: str) -> ByteSize:
    return TypeAdapter(ByteSize).validate_python(text)


SECRETS_DIR_VARIABLE = "MPA_SECRETS_DIR"


class _SecretFiles(SecretsSettingsSource):
    """Settings from files named like the variables (``mpa_api_key``). An empty file sets nothing."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if value != ""}


class CommonSettings(BaseSettings):
    """What every service needs. Files in ``MPA_SECRETS_DIR`` set what the environment does not."""

    model_config = SettingsConfigDict(env_prefix="MPA_", extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)
    needs_redis: ClassVar[bool] = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings calls by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        folder = os.environ.get(SECRETS_DIR_VARIABLE) or None
        if folder is not None and not Path(folder).is_dir():
            folder = None  # read_settings says so
        return init_settings, env_settings, _SecretFiles(settings_cls, secrets_dir=folder)

    data_dir: Path = Field(Path(".mpa"), description="local folder for caches, logs and the embedded store")
    store: str = Field("", description="artifact store URL (file://, s3://, gs://, memory://); empty: <data_dir>/store")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="Redis for state and queue (redis://, rediss://, unix:// or redis+sentinel://, see "
        "docs/deploy.md#redis); a student can run without it",
    )
    redis_password: SecretStr | None = Field(
        None,
        description="password for MPA_REDIS_URL, if the URL does not contain one; may come from a file, like the keys",
    )
    api_key: SecretStr | None = Field(None, description="if set, every service requires it as a Bearer token")
    log_format: Literal["text", "json"] = Field("text", description="json: one object per line, for log collectors")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    torch_threads: int = Field(1, ge=1, description="intra-op threads of each torch process")
    trust_remote_code: bool = Field(False, description="let Hugging Face load code from model folders; leave it off")
    shutdown_grace: Duration = Field(timedelta(seconds=10), description="time for requests in flight at SIGTERM")
    otlp_endpoint: str = Field(
        "",
        description="OTLP/HTTP collector for traces, as http://host:4318; empty: OTEL_EXPORTER_OTLP_ENDPOINT or none",
    )
    trace_share: float = Field(
        0.01, ge=0, le=1, description="share of the requests without a trace that begin one; submitted jobs always do"
    )

    @field_validator("*", mode="after")
    @classmethod
    def _can_work(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name == "redis_url" and not value and not cls.needs_redis:
            return value
        check_setting(info.field_name or "", value)
        return value

    @model_validator(mode="after")
    def _redis_asks_for_a_password(self) -> Self:
        if self.redis_password is not None and self.redis_url:
            # Not by assignment: that would count as naming a Redis, and keep the supervisor from starting one.
            self.__dict__["redis_url"] = add_password(self.redis_url, self.redis_password.get_secret_value())
        return self

    @property
    def store_url(self) -> str:
        return self.store or (self.data_dir.absolute() / "store").as_uri()


class HttpSettings(CommonSettings):
    """What every HTTP service needs."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 listens on all")
    max_body: ByteSize = Field(size("32MiB"), description="largest request body")


class ImageSettings(CommonSettings):
    """Limits on images, wherever they are decoded."""

    max_image_bytes: ByteSize = Field(size("20MiB"), description="a larger image file is unreadable")
    max_image_pixels: int = Field(50_000_000, description="an image with more pixels is unreadable")
    min_image_side: int = Field(2, description="an image with a shorter side is unreadable")


class ChatImageSettings(ImageSettings):
    """Which image URLs chat requests may hold besides data URLs."""

    chat_image_urls: bool = Field(False, description="fetch http(s) images that chat requests name")
    chat_private_image_urls: bool = Field(False, description="also fetch them from private addresses")
    chat_image_timeout: Duration = Field(timedelta(seconds=10), description="time to fetch one image")


class ProbeSettings(CommonSettings):
    """The white-box attention probe of a model service."""

    attention_probe: bool = Field(False, description="answer POST /v1/attention with a transformers copy of the model")
    attention_idle: Duration = Field(timedelta(minutes=5), description="the copy is released when unused for this long")


class WorkerSettings(CommonSettings):
    """What workers that take work from the queue need."""

    metrics_port: int | None = Field(
        None, ge=0, description="port of a worker's /metrics; 0: any free one; not set: none. Services have their own"
    )
