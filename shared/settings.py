"""One Settings class per service, read from the environment (prefix ``MPA_``). Durations are timedeltas, sizes
ByteSize.

Durations take seconds (``MPA_LEASE=30``) or ISO 8601 (``PT30S``); sizes take ``25MB``, ``1GiB``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from shared.errors import MPAError
from shared.setting_checks import check_file, check_secrets_folder, check_setting


def _seconds(value: object) -> object:
    """Read plain numbers as seconds, as people write them in environment variables."""
    if isinstance(value, str):
        try:
            return timedelta(seconds=float(value))
        except ValueError:
            return value
    return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]


def _size(text: str) -> ByteSize:
    return TypeAdapter(ByteSize).validate_python(text)


SECRETS_DIR_VARIABLE = "MPA_SECRETS_DIR"


class _SecretFiles(SecretsSettingsSource):
    """Settings from files named like the variables (``mpa_api_key``). An empty file sets nothing."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if value != ""}


class CommonSettings(BaseSettings):
    """What every service needs. Files in ``MPA_SECRETS_DIR`` set what the environment does not."""

    model_config = SettingsConfigDict(env_prefix="MPA_", extra="ignore")
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
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis for state and queue; a student needs none")
    api_key: SecretStr | None = Field(None, description="when set, every service asks for it as a Bearer token")
    log_format: Literal["text", "json"] = Field("text", description="json: one object a line, for log collectors")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    torch_threads: int = Field(1, ge=1, description="intra-op threads of each torch process")
    trust_remote_code: bool = Field(False, description="let Hugging Face load code from model folders; leave off")
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

    @property
    def store_url(self) -> str:
        return self.store or (self.data_dir.absolute() / "store").as_uri()


class HttpSettings(CommonSettings):
    """What every HTTP service needs."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0: all")
    max_body: ByteSize = Field(_size("32MiB"), description="largest request body")


class ImageSettings(CommonSettings):
    """Limits on images, wherever they are decoded."""

    max_image_bytes: ByteSize = Field(_size("20MiB"), description="a larger image file is unreadable")
    max_image_pixels: int = Field(50_000_000, description="larger images are unreadable, before decoding")
    min_image_side: int = Field(2, description="an image with a shorter side is unreadable")


class ChatImageSettings(ImageSettings):
    """Which image URLs chat requests may hold beside data URLs."""

    chat_image_urls: bool = Field(False, description="fetch http(s) images that chat requests name")
    chat_private_image_urls: bool = Field(False, description="also from private addresses")
    chat_image_timeout: Duration = Field(timedelta(seconds=10), description="for one image to be fetched")


class ProbeSettings(CommonSettings):
    """The white-box attention probe of a model service."""

    attention_probe: bool = Field(False, description="answer POST /v1/attention with a transformers copy of the model")
    attention_idle: Duration = Field(timedelta(minutes=5), description="the copy is let go after this long unused")


class TeacherSettings(HttpSettings, ChatImageSettings, ProbeSettings):
    """Teacher service: the supervised vLLM child (or the transformers fall-back) and its HTTP face."""

    teacher_port: int = Field(8101, ge=0, description="port of the teacher; 0: any free one")
    teacher_model: str = Field("demo/models/teacher", description="folder or hub id of the L-VLM")
    teacher_name: str = Field("teacher", description="model name on the wire")
    teacher_engine: Literal["vllm", "transformers"] = Field(
        "vllm", description="transformers: slower, for machines that have no vLLM"
    )
    teacher_dtype: str = Field("auto", description="auto: float32 on CPU, the model's own on GPU")
    teacher_vllm_python: str = Field("", description="interpreter that has vLLM; empty: the running one")
    teacher_vllm_args: str = Field("", description="more arguments for vLLM's server, shell-quoted; they win over ours")
    teacher_max_model_len: int = Field(1024, description="longest prompt and answer, in tokens, images included")
    teacher_max_images: int = Field(8, ge=1, description="images in one request; all are decoded at once")
    teacher_ready_timeout: Duration = Field(timedelta(seconds=300), description="for the model to load and answer")
    teacher_request_timeout: Duration = Field(timedelta(seconds=120), description="for one request")


class StudentSettings(HttpSettings, ChatImageSettings, ProbeSettings):
    """Student service: engine, batching, rollout."""

    student_port: int = Field(8102, ge=0, description="port of the student; 0: any free one")
    student_name: str = Field("student", description="model name on the wire and in the registry")
    student_model: str = Field(
        "demo/models/student", description="folder or hub id of the base S-VLM, registered as version `base`"
    )
    student_engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="vllm: a supervised vLLM server, whose weights are swapped in place"
    )
    student_vllm_python: str = Field("", description="interpreter that has vLLM; empty: the running one")
    student_vllm_args: str = Field("", description="more arguments for vLLM's server, shell-quoted; they win over ours")
    student_vllm_lora: bool = Field(
        False, description="load LoRA checkpoints as adapters at run time, see docs/engines.md"
    )
    student_vllm_lora_rank: int = Field(
        16,
        ge=1,
        le=512,
        description="largest rank of adapters; checkpoints of a larger one are swapped as whole weights",
    )
    student_max_model_len: int | None = Field(None, description="longest prompt and answer on vLLM; None: the model's")
    student_ready_timeout: Duration = Field(timedelta(seconds=300), description="for vLLM to load and answer")
    student_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="what the student computes in"
    )
    student_device: str = Field("auto", description="auto: cuda if there is one, else cpu")
    student_process: Literal["thread", "process"] = Field(
        "thread", description="transformers: run the model on a thread of the service, or in a process of its own"
    )
    student_max_batch: int = Field(32, ge=1, description="requests answered together")
    student_max_wait: Duration = Field(timedelta(milliseconds=5), description="how long a batch waits for company")
    student_queue_size: int = Field(512, ge=1, description="requests waiting beyond this get 429")
    student_feature_cache: ByteSize = Field(
        _size("256MiB"), description="memory for the features of images, which later questions reuse; 0: none"
    )
    student_compile: bool = Field(
        False, description="torch.compile the model: minutes of start-up, faster on a GPU; a CPU needs a C++ compiler"
    )
    student_swap: Literal["double_buffer", "in_place"] = Field(
        "double_buffer",
        description="in_place: overwrite the weights between two batches, with no second copy in memory",
    )
    student_max_tokens: int = Field(256, ge=1, description="upper limit of max_tokens")
    student_max_images: int = Field(4, ge=1, description="images in one request")
    student_request_timeout: Duration = Field(timedelta(seconds=120), description="for one request")
    student_swap_timeout: Duration = Field(timedelta(seconds=300), description="for one swap of the checkpoint")
    student_tap_share: float = Field(
        0.0, ge=0, le=1, description="share of the answered requests whose images go to the store as a pile; 0: off"
    )
    student_tap_questions: bool = Field(False, description="keep the questions beside the images")
    student_tap_max_bytes: ByteSize = Field(_size("1GiB"), description="the pile's size; the oldest hours go first")
    student_tap_max_age: Duration = Field(timedelta(days=7), description="images are deleted when they are older")
    student_tap_filter: str = Field("", description="privacy filter as module:function; see docs/traffic-tap.md")
    student_keep_previous: bool = Field(
        True, description="hold the previous version in memory: rollback without a reload"
    )
    student_follow_every: Duration = Field(
        timedelta(seconds=3), description="how often a replica looks at the registry, whether or not Redis told it to"
    )
    student_replica_timeout: Duration = Field(
        timedelta(seconds=15), description="a replica that Redis has not heard of this long is no longer listed"
    )


class WorkerSettings(CommonSettings):
    """What the workers need that take work from the queue."""

    metrics_port: int | None = Field(
        None, ge=0, description="port of a worker's /metrics; 0: any free one; None: none. Services have theirs anyway"
    )


class ParitySettings(HttpSettings, ImageSettings, WorkerSettings):
    """Parity API, its worker and reconciler."""

    needs_redis: ClassVar[bool] = True

    parity_port: int = Field(8100, ge=0, description="port of the job API; 0: any free one")
    teacher_url: str = Field("http://127.0.0.1:8101", description="any OpenAI-compatible endpoint (without /v1)")
    teacher_api_key: SecretStr | None = Field(None, description="Bearer token for the teacher, where it is not api_key")
    teacher_name: str = Field("teacher", description="model name sent to the teacher")
    student_url: str = Field("http://127.0.0.1:8102", description="the student service")
    student_name: str = Field("student", description="model name on the wire and in the registry")
    tasks_file: Path | None = Field(None, description="YAML with custom task profiles")
    image_roots: list[Path] = Field(
        default_factory=lambda: [Path()], description="folders that image sources may read (JSON list)"
    )
    allow_image_urls: bool = Field(False, description="allow http(s) images in manifests")
    allow_private_image_urls: bool = Field(False, description="let image URLs lead to private addresses")
    max_images_per_job: int = Field(1_000_000, description="a larger job is refused")
    calls_in_flight: int = Field(
        32, ge=1, description="most calls in flight from a worker process to a model server; fewer where it is slow"
    )
    call_timeout: Duration = Field(timedelta(seconds=120), description="for one call of a model server")
    worker_concurrency: int = Field(2, ge=1, description="shards in work at once per worker")
    lease: Duration = Field(
        timedelta(seconds=30), description="a worker that misses its heartbeat this long loses the shard"
    )
    reconcile_every: Duration = Field(timedelta(seconds=5), description="how often lost messages are looked for")
    shard_attempts: int = Field(5, ge=1, description="tries of a shard before the job fails")
    train_attempts: int = Field(3, ge=1, description="tries of a training before the job fails")
    max_upload: ByteSize = Field(_size("1GiB"), description="largest upload")
    trace_images: int = Field(
        50, ge=0, description="images of a job, evenly spread, whose calls and verdicts are in its trace"
    )


class TrainerSettings(HttpSettings, ImageSettings, WorkerSettings):
    """Trainer API and worker."""

    needs_redis: ClassVar[bool] = True

    trainer_port: int = Field(8103, ge=0, description="port of the trainer; 0: any free one")
    student_url: str = Field("http://127.0.0.1:8102", description="the student service")
    student_name: str = Field("student", description="model name on the wire and in the registry")
    student_model: str = Field("demo/models/student", description="the student service's base model")
    teacher_url: str = Field("http://127.0.0.1:8101", description="asked about benchmarks, for comparison")
    teacher_api_key: SecretStr | None = Field(None, description="Bearer token for the teacher, where it is not api_key")
    teacher_name: str = Field("teacher", description="model name sent to the teacher")
    tasks_file: Path | None = Field(None, description="YAML with custom task profiles")
    train_device: str = Field("auto", description="auto: cuda if there is one, else cpu")
    train_threads: int = Field(2, ge=1, description="torch threads of a training, shared by its processes")
    train_cache: ByteSize = Field(
        _size("2GiB"), description="memory for prepared images and frozen image features; more features go to disk"
    )
    train_accelerate_config: Path | None = Field(
        None, description="accelerate's YAML: several processes, FSDP or DeepSpeed; see docs/training.md"
    )
    train_report_to: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        ["tensorboard"], description="where the curves of a training go (JSON list; []: nowhere)"
    )
    allow_image_urls: bool = Field(False, description="fetch http(s) images of a set again for training")
    allow_private_image_urls: bool = Field(False, description="also from private addresses")
    lease: Duration = Field(timedelta(seconds=30), description="a worker silent for so long loses its training")
    train_attempts: int = Field(3, ge=1, description="tries of a training before the job fails")
    eval_batch_size: int = Field(32, ge=1, description="questions answered together in the evaluation")
    call_timeout: Duration = Field(timedelta(seconds=120), description="for one call of a model server")
    student_swap_timeout: Duration = Field(timedelta(seconds=300), description="for one swap of the checkpoint")


class ClientSettings(CommonSettings):
    """What the `mpa` command line needs."""

    parity_url: str = Field("http://127.0.0.1:8100", description="the job API")
    student_url: str = Field("http://127.0.0.1:8102", description="the student service")
    student_name: str = Field("student", description="model name on the wire and in the registry")
    teacher_url: str = Field("http://127.0.0.1:8101", description="the teacher, which `mpa doctor` asks")
    teacher_api_key: SecretStr | None = Field(None, description="Bearer token for the teacher, where it is not api_key")
    teacher_name: str = Field("teacher", description="model name sent to the teacher")
    trainer_url: str = Field("http://127.0.0.1:8103", description="the trainer's API, which `mpa doctor` asks")


S = TypeVar("S", bound=CommonSettings)
BAD_SETTINGS = 2


def read_settings(kind: type[S], *checks: Callable[[S], object]) -> S:
    """The settings of a process; one that has bad values says all of them and ends with exit code 2.

    ``checks`` look at valid settings once more; each raises MPAError for what its service cannot start with.
    """
    refuse_bad_settings(kind)
    settings = kind()
    _refuse([problem for check in checks for problem in _problems_of(check, settings)])
    return settings


def refuse_bad_settings(*kinds: type[CommonSettings]) -> None:
    """End the process with exit code 2 if settings of these kinds have bad values, all of which are said."""
    found = [problem for kind in kinds for problem in _problems_in(kind)]
    _refuse(list(dict.fromkeys([*_problems_at(SECRETS_DIR_VARIABLE, check_secrets_folder), *found])))


def _refuse(problems: list[str]) -> None:
    if not problems:
        return
    number = "a setting is" if len(problems) == 1 else f"{len(problems)} settings are"
    lines = "\n".join(f"  {problem}" for problem in problems)
    sys.stderr.write(f"error: {number} not valid (docs/configuration.md has all of them):\n{lines}\n")
    raise SystemExit(BAD_SETTINGS)


def _problems_in(kind: type[CommonSettings]) -> list[str]:
    """All that is wrong, by the variables' names."""
    files = [] if "tasks_file" not in kind.model_fields else _problems_at("MPA_TASKS_FILE", check_file)
    try:
        kind()
    except ValidationError as error:
        return files + [
            f"MPA_{'.'.join(map(str, item['loc'])).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
    return files


def _problems_at(variable: str, check: Callable[[str], None]) -> list[str]:
    """What a check says of a variable that is set."""
    value = os.environ.get(variable)
    try:
        if value:
            check(value)
    except ValueError as error:
        return [f"{variable}: {error}"]
    return []


def _problems_of(check: Callable[[S], object], settings: S) -> list[str]:
    try:
        check(settings)
    except MPAError as error:
        return [error.detail]
    return []
