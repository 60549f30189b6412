"""One settings class a service, and one for the command line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ByteSize, Field, SecretStr

from shared.settings.common import (
    ChatImageSettings,
    Duration,
    HttpSettings,
    ImageSettings,
    ProbeSettings,
    WorkerSettings,
    size,
)


class TeacherSettings(HttpSettings, ChatImageSettings, ProbeSettings):
    """Teacher service: the supervised vLLM child (or the transformers fallback) and its HTTP interface."""

    teacher_port: int = Field(8101, ge=0, description="port of the teacher; 0: any free one")
    teacher_model: str = Field("demo/models/teacher", description="folder or hub id of the L-VLM")
    teacher_name: str = Field("teacher", description="model name on the wire")
    teacher_engine: Literal["vllm", "transformers"] = Field(
        "vllm", description="transformers: slower, for machines that have no vLLM"
    )
    teacher_dtype: str = Field("auto", description="auto: float32 on CPU, the model's own on GPU")
    teacher_vllm_python: str = Field("", description="interpreter that has vLLM; empty: the running one")
    teacher_vllm_args: str = Field("", description="more arguments for vLLM's server, shell-quoted; they override ours")
    teacher_max_model_len: int = Field(1024, description="longest prompt and answer, in tokens, images included")
    teacher_max_images: int = Field(8, ge=1, description="images in one request; all are decoded at once")
    teacher_ready_timeout: Duration = Field(timedelta(seconds=300), description="time for the model to load and answer")
    teacher_request_timeout: Duration = Field(timedelta(seconds=120), description="time for one request")


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
    student_vllm_args: str = Field("", description="more arguments for vLLM's server, shell-quoted; they override ours")
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
    student_ready_timeout: Duration = Field(timedelta(seconds=300), description="time for vLLM to load and answer")
    student_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="dtype that the student computes in"
    )
    student_device: str = Field("auto", description="auto: cuda if there is one, else cpu")
    student_process: Literal["thread", "process"] = Field(
        "thread", description="transformers: run the model on a thread of the service, or in a separate process"
    )
    student_max_batch: int = Field(32, ge=1, description="requests answered together")
    student_max_wait: Duration = Field(timedelta(milliseconds=5), description="wait of a batch for more requests")
    student_queue_size: int = Field(512, ge=1, description="requests waiting beyond this get 429")
    student_feature_cache: ByteSize = Field(
        size("256MiB"), description="memory for the features of images, which later questions reuse; 0: none"
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
    student_request_timeout: Duration = Field(timedelta(seconds=120), description="time for one request")
    student_swap_timeout: Duration = Field(timedelta(seconds=300), description="time for one swap of the checkpoint")
    student_tap_share: float = Field(
        0.0, ge=0, le=1, description="share of the answered requests whose images go to the store as a pile; 0: off"
    )
    student_tap_questions: bool = Field(False, description="keep the questions with the images")
    student_tap_max_bytes: ByteSize = Field(size("1GiB"), description="the pile's size; the oldest hours go first")
    student_tap_max_age: Duration = Field(timedelta(days=7), description="images are deleted when they are older")
    student_tap_filter: str = Field("", description="privacy filter as module:function; see docs/traffic-tap.md")
    student_keep_previous: bool = Field(
        True, description="hold the previous version in memory: rollback without a reload"
    )
    student_follow_every: Duration = Field(
        timedelta(seconds=3), description="how often a replica looks at the registry, even without a message from Redis"
    )
    student_replica_timeout: Duration = Field(
        timedelta(seconds=15), description="a replica that has not reported to Redis for this long is no longer listed"
    )


class ParitySettings(HttpSettings, ImageSettings, WorkerSettings):
    """Parity API, its worker and reconciler."""

    needs_redis: ClassVar[bool] = True

    parity_port: int = Field(8100, ge=0, description="port of the job API; 0: any free one")
    teacher_url: str = Field("http://127.0.0.1:8101", description="any OpenAI-compatible endpoint (without /v1)")
    teacher_api_key: SecretStr | None = Field(None, description="Bearer token for the teacher, if not MPA_API_KEY")
    teacher_name: str = Field("teacher", description="model name sent to the teacher")
    teacher_reasoning_tokens: int = Field(
        0, ge=0, description="tokens for a reasoning teacher to think in, on top of a task's limit for each text"
    )
    student_url: str = Field("http://127.0.0.1:8102", description="the student service")
    student_name: str = Field("student", description="model name on the wire and in the registry")
    student_reasoning_tokens: int = Field(
        0, ge=0, description="tokens for a reasoning student to think in, on top of a task's limit for each answer"
    )
    tasks_file: Path | None = Field(None, description="YAML with custom task profiles")
    image_roots: list[Path] = Field(
        default_factory=lambda: [Path()], description="folders that image sources may read (JSON list)"
    )
    allow_image_urls: bool = Field(False, description="allow http(s) images in manifests")
    allow_private_image_urls: bool = Field(False, description="allow image URLs that lead to private addresses")
    max_images_per_job: int = Field(1_000_000, description="a larger job is refused")
    calls_in_flight: int = Field(
        32, ge=1, description="most calls in flight from a worker process to a model server; fewer if it is slow"
    )
    call_timeout: Duration = Field(timedelta(seconds=120), description="time for one call to a model server")
    worker_concurrency: int = Field(2, ge=1, description="shards that a worker works on at once")
    lease: Duration = Field(timedelta(seconds=30), description="a worker silent for this long loses its shard")
    reconcile_every: Duration = Field(timedelta(seconds=5), description="how often lost messages are looked for")
    shard_attempts: int = Field(5, ge=1, description="attempts at a shard before the job fails")
    train_attempts: int = Field(3, ge=1, description="attempts at a training before the job fails")
    max_upload: ByteSize = Field(size("1GiB"), description="largest upload")
    trace_images: int = Field(
        50, ge=0, description="images of a job, evenly spread, whose calls and verdicts are in its trace"
    )


class TrainerSettings(HttpSettings, ImageSettings, WorkerSettings):
    """Trainer API and worker."""

    needs_redis: ClassVar[bool] = True

    trainer_port: int = Field(8103, ge=0, description="port of the trainer; 0: any free one")
    student_url: str = Field("http://127.0.0.1:8102", description="the student service")
    student_name: str = Field("student", description="model name on the wire and in the registry")
    student_reasoning_tokens: int = Field(
        0, ge=0, description="tokens for a reasoning student to think in, on top of a task's limit for each answer"
    )
    student_model: str = Field("demo/models/student", description="the student service's base model")
    teacher_url: str = Field("http://127.0.0.1:8101", description="asked about benchmarks, for comparison")
    teacher_api_key: SecretStr | None = Field(None, description="Bearer token for the teacher, if not MPA_API_KEY")
    teacher_name: str = Field("teacher", description="model name sent to the teacher")
    teacher_reasoning_tokens: int = Field(
        0, ge=0, description="tokens for a reasoning teacher to think in, on top of a task's limit for each text"
    )
    tasks_file: Path | None = Field(None, description="YAML with custom task profiles")
    train_device: str = Field("auto", description="auto: cuda if there is one, else cpu")
    train_threads: int = Field(2, ge=1, description="torch threads of a training, shared by its processes")
    train_cache: ByteSize = Field(
        size("2GiB"), description="memory for prepared images and frozen image features; more features go to disk"
    )
    train_accelerate_config: Path | None = Field(
        None, description="accelerate's YAML: several processes, FSDP or DeepSpeed; see docs/training.md"
    )
    train_report_to: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        ["tensorboard"], description="where the curves of a training go (JSON list; []: nowhere)"
    )
    allow_image_urls: bool = Field(False, description="fetch http(s) images of a set again for training")
    allow_private_image_urls: bool = Field(False, description="also fetch them from private addresses")
    lease: Duration = Field(timedelta(seconds=30), description="a worker silent for this long loses its training")
    train_attempts: int = Field(3, ge=1, description="attempts at a training before the job fails")
    eval_batch_size: int = Field(32, ge=1, description="questions answered together in the evaluation")
    call_timeout: Duration = Field(timedelta(seconds=120), description="time for one call to a model server")
    student_swap_timeout: Duration = Field(timedelta(seconds=300), description="time for one swap of the checkpoint")


class ClientSettings(ImageSettings):
    """What the `mpa` command line needs. The limits on images are for `mpa evaluate`."""

    parity_url: str = Field("http://127.0.0.1:8100", description="the job API")
    student_url: str = Field("http://127.0.0.1:8102", description="the student service")
    student_name: str = Field("student", description="model name on the wire and in the registry")
    student_reasoning_tokens: int = Field(
        0, ge=0, description="tokens for a reasoning student to think in, on top of a task's limit for each answer"
    )
    teacher_url: str = Field("http://127.0.0.1:8101", description="the teacher, which `mpa doctor` asks")
    teacher_api_key: SecretStr | None = Field(None, description="Bearer token for the teacher, if not MPA_API_KEY")
    teacher_name: str = Field("teacher", description="model name sent to the teacher")
    teacher_reasoning_tokens: int = Field(
        0, ge=0, description="tokens for a reasoning teacher to think in, on top of a task's limit for each text"
    )
    trainer_url: str = Field("http://127.0.0.1:8103", description="the trainer's API, which `mpa doctor` asks")
