"""Every pydantic model that crosses a service boundary, and nothing else.

Times are UTC. Fractions are 0-1. Token counts are those the serving engine reported.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Contract(BaseModel):
    """Base of all contracts: unknown fields are errors, so that a typo in a spec is never ignored."""

    model_config = ConfigDict(extra="forbid")


class Stored(Contract):
    """Base of what outlives the process that wrote it. Readers of another release ignore fields that they do not know;
    a writer that means something they must not ignore raises ``schema_version`` (shared/compatibility.py).
    """

    schema_version: int = Field(
        1,
        ge=1,
        exclude_if=lambda version: version == 1,
        description="least schema that a reader has to know; left out where it is 1",
    )


# ---------------------------------------------------------------- enums


class Verdict(StrEnum):
    """How a pair (or an image that yielded none) ended; stored for every one, so that the funnel adds up."""

    DISPARITY = "disparity"
    STUDENT_RIGHT = "student_right"
    TEACHER_INCONSISTENT = "teacher_inconsistent"
    UNPARSABLE = "unparsable"
    UNREADABLE_IMAGE = "unreadable_image"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class JobState(StrEnum):
    QUEUED = "queued"
    COLLECTING = "collecting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    PROMOTING = "promoting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Outcome(StrEnum):
    PROMOTED = "promoted"
    KEPT = "kept"
    NO_GAP = "no_gap"


class Split(StrEnum):
    """Images of a pile are split by content hash: ``held_out`` ones are never trained on and feed the gate."""

    TRAIN = "train"
    HELD_OUT = "held_out"


# ---------------------------------------------------------------- job spec


class FolderSource(Contract):
    """All image files below a folder of an allowed root (or a store URL)."""

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1)
    recursive: bool = True
    tasks: list[str] | None = Field(None, description="tasks asked about these images; the spec's tasks if absent")


class GlobSource(Contract):
    kind: Literal["glob"] = "glob"
    pattern: str = Field(min_length=1)
    tasks: list[str] | None = None


class ManifestSource(Contract):
    """A JSONL or Parquet file with a column ``image`` (path, relative to the file, or URL) and optionally ``task``."""

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


class AnnotatorSpec(Contract):
    """Pseudo Annotator. ``two_step`` asks for a question (sampled), then answers it greedily; ``one_shot`` is the
    paper's way.
    """

    mode: Literal["two_step", "one_shot"] = "two_step"
    questions_per_image: int = Field(3, ge=1, le=32)
    temperature: float = Field(0.8, ge=0, le=2)
    top_p: float = Field(0.9, gt=0, le=1)
    structured: Literal["auto", "off"] = Field(
        "auto", description="auto: hold the teacher to the task's JSON schema, where both have or understand one"
    )


class IdentifierSpec(Contract):
    """Parity Identifier. A pair is kept iff the student is wrong and the teacher's vote share over ``votes`` is >=
    ``threshold``; and, where asked for, the teacher is sure of its answer and stands by it in another question.
    """

    verify: Literal["disagreements", "all"] = "disagreements"
    match: Literal["task", "paper"] = "task"
    votes: int = Field(3, ge=1, le=16)
    threshold: float = Field(0.66, ge=0, le=1)
    vote_temperature: float = Field(1.0, ge=0, le=2)
    min_confidence: float = Field(
        0.0, ge=0, le=1, description="least probability (mean over tokens) of its answer to the teacher; 0: any"
    )
    cross_check: bool = Field(
        False, description="ask the teacher in a second question whether its answer is right; needs the task's `check`"
    )


class LoraSpec(Contract):
    rank: int = Field(16, ge=1, le=512)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | None = Field(None, description="None: all linear layers of the language model")


class LossSpec(Contract):
    """The alignment loss. ``preset`` says what each field is that is not given; docs/method.md has the formulas.

    ``paper``: the plain cross-entropy of the paper, on disparity pairs alone. ``replay``: the same with replay pairs.
    ``discrepancy``: replay with the weights and the consistency that any teacher allows.
    """

    preset: Literal["paper", "replay", "discrepancy"] = "replay"
    weigh_by: list[Literal["vote_share", "confidence", "reasoning", "attention"]] | None = Field(
        None, description="discrepancies that a disparity pair's weight grows with"
    )
    consistency: float | None = Field(None, ge=0, description="λ of the output consistency term")
    consistency_by: Literal["auto", "top_k", "candidates"] = Field(
        "auto",
        description="top_k needs one tokenizer for both models and a teacher with logprobs; candidates needs votes",
    )
    rationale: float | None = Field(None, ge=0, description="λ of the cross-entropy of the teacher's rationale")
    attention: float | None = Field(None, ge=0, description="λ of the divergence of the attention maps")


class TrainSpec(Contract):
    """One training run. ``max_steps`` wins over ``epochs``, which counts passes over the disparity pairs."""

    method: Literal["full", "lora"] = "full"
    learning_rate: float = Field(5e-4, gt=0, le=1)
    batch_size: int = Field(32, ge=1, le=4096, description="samples of a batch, whatever processes share it")
    gradient_accumulation: int = Field(1, ge=1, le=1024, description="batches of an optimiser step")
    epochs: float = Field(3.0, gt=0, le=1000)
    max_steps: int | None = Field(None, ge=1)
    warmup_fraction: float = Field(0.05, ge=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    replay_fraction: float = Field(0.5, ge=0, lt=1, description="share of each batch that is student_right pairs")
    freeze_vision: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    length_bucketing: bool = Field(
        False, description="batches of samples of like length: less padding, but less mixed within a batch"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, about a third slower"
    )
    save_every_steps: int = Field(100, ge=1)
    loss: LossSpec = LossSpec()
    lora: LoraSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _the_paper_has_no_replay(cls, data: Any) -> Any:
        loss = data.get("loss") if isinstance(data, dict) else None
        preset = loss.get("preset") if isinstance(loss, dict) else getattr(loss, "preset", None)
        return {"replay_fraction": 0.0, **data} if preset == "paper" else data

    @model_validator(mode="after")
    def _lora_only_with_method(self) -> TrainSpec:
        if self.lora is not None and self.method != "lora":
            raise ValueError(
                'train.lora is given but train.method is "full": set train.method to "lora" or drop train.lora'
            )
        return self


class GateSpec(Contract):
    """Promote only if held-out agreement with the teacher grows by ``min_gain`` and no task loses more than
    ``tolerance``.
    """

    held_out_fraction: float = Field(0.1, gt=0, lt=1)
    min_gain: float = Field(0.0, ge=0, le=1)
    tolerance: float = Field(0.02, ge=0, le=1)
    promote: bool = Field(True, description="False: train and evaluate, but never touch the running student")


class DiscrepancySpec(Contract):
    """What is measured of every kept pair beside the answers, and stored in the set."""

    confidence: bool = Field(
        True, description="how much likelier the teacher's answer is to the teacher; needs a teacher with logprobs"
    )
    top_k: int = Field(
        0, ge=0, le=20, description="alternatives stored for each token of the teacher's answer; 0: none"
    )
    reasoning: bool = Field(
        False, description="how much less likely the teacher's one-sentence rationale is to the student"
    )
    attention: bool = Field(
        False, description="where teacher and student look while they answer; both need MPA_ATTENTION_PROBE=true"
    )
    grid: int = Field(8, ge=1, le=32, description="rows and columns of the attention maps")


class RoundsSpec(Contract):
    """Mine, train, and mine again with what was trained, until a bound is met (docs/rounds.md)."""

    max: int = Field(1, ge=1, le=10, description="rounds at most")
    min_disparity: float = Field(
        0.02, ge=0, le=1, description="stop when fewer of a round's checked pairs than this share are disparity pairs"
    )
    min_gain: float = Field(
        0.005, ge=0, le=1, description="stop when held-out agreement grew by less than this in a round"
    )
    steer: bool = Field(
        False, description="later rounds ask more about the tasks, and by example the questions, that the student fails"
    )


class JobSpec(Contract):
    """What a team submits to ``POST /v1/jobs``."""

    name: str = Field("", max_length=200)
    images: list[ImageSource] = Field(min_length=1, description="one source or a list of them")
    tasks: list[str] = Field(
        min_length=1, description="names of task profiles, asked of every image whose source names none"
    )
    student: str = Field("student", pattern=NAME_PATTERN)
    annotator: AnnotatorSpec = AnnotatorSpec()
    identifier: IdentifierSpec = IdentifierSpec()
    discrepancies: DiscrepancySpec = DiscrepancySpec()
    train: TrainSpec = TrainSpec()
    rounds: RoundsSpec = RoundsSpec()
    gate: GateSpec = GateSpec()
    benchmark: str | None = Field(
        None, description="labelled JSONL (image, task, question, answers); read by evaluation only"
    )
    shard_size: int = Field(64, ge=1, le=10_000)
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _one_source_is_a_list(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("images"), dict):
            return {**data, "images": [data["images"]]}
        return data


class ManifestEntry(Contract):
    """One line of ``jobs/<id>/manifest.jsonl``: an image and the tasks asked about it, in manifest order (index 0, 1,
    …).
    """

    index: int = Field(ge=0)
    image: str = Field(description="absolute path or URL")
    tasks: list[str]


class StoredSpec(Stored):
    """``jobs/<id>/spec.json``: enough to rebuild a job's record when Redis is lost."""

    job_id: str
    created_at: datetime
    spec: JobSpec
    images: int
    shards: int
    idempotency_key: str | None = None
    idempotency_digest: str | None = None


# ---------------------------------------------------------------- job status


class TokenCount(Contract):
    """Teacher tokens. ``saved`` estimates what ``verify: all`` would have spent on top (verifications not asked)."""

    prompt: int = 0
    completion: int = 0
    saved: int = 0

    @property
    def spent(self) -> int:
        return self.prompt + self.completion


class StageCount(Contract):
    done: int = 0
    total: int = 0


class Distribution(Contract):
    """How a discrepancy is spread over the kept pairs that have it; ``tenths`` counts them by tenths of [0, 1]."""

    count: int
    mean: float
    tenths: list[int]


class TrainingProgress(Contract):
    step: int = 0
    steps: int = 0
    loss: float | None = None
    samples_per_second: float | None = None
    eta_seconds: float | None = None
    memory_bytes: int | None = Field(
        None, description="most memory that a process of the training took so far: of its GPU, else of the machine"
    )
    gradient_norm: float | None = Field(None, description="before clipping")
    terms: dict[str, float] = Field(default_factory=dict, description="loss terms by name, before their weights")


class TaskScore(Contract):
    """Scores of one task on held-out images, 0-1. ``accuracy_*`` only where a labelled benchmark was given."""

    questions: int
    agreement_before: float | None = None
    agreement_after: float | None = None
    benchmark_questions: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    accuracy_teacher: float | None = None


class Evaluation(Contract):
    """``overall`` and per-task scores of a candidate checkpoint against the one that served when the job began."""

    overall: TaskScore
    tasks: dict[str, TaskScore]


class TaskShare(Contract):
    """How a student did on a task's checked questions: those it answered like the teacher, or fails for certain."""

    checked: int = 0
    disparity: int = 0


class RoundReport(Stored):
    """``jobs/<id>/rounds/<round>.json``: a round that is over. It is published before the job moves on, so that the
    round a job is in can be told from the artifact store alone.

    ``evaluation`` compares the candidate with what served when the job was first trained, always on round 1's held-out
    pairs; ``evaluation_new`` on the round's own. ``gain``: in agreement over the best candidate before.
    """

    round: int = Field(ge=1)
    student: str = Field(description="version that was asked in this round and trained further")
    pairs: int
    verdicts: dict[Verdict, int]
    disparity_rate: float | None = Field(None, description="disparity pairs among the checked ones")
    tasks: dict[str, TaskShare] = Field(default_factory=dict)
    failed_questions: dict[str, list[str]] = Field(
        default_factory=dict, description="by task, questions that the student failed: examples for the next round"
    )
    candidate: str | None = Field(None, description="version that the round made; None if it stopped before")
    evaluation: Evaluation | None = None
    evaluation_new: Evaluation | None = None
    gain: float | None = None
    good: bool = Field(False, description="whether the candidate passes the gate and is better than those before")
    goes_on: bool = False
    reason: str = Field("", description="why another round follows, or none, in words")


class JobStatus(Contract):
    """``GET /v1/jobs/{id}``. ``images``, ``shards``, rate and ETA are the present round's; pairs, verdicts and tokens
    those of all rounds.
    """

    id: str
    name: str
    state: JobState
    outcome: Outcome | None = None
    reason: str | None = Field(None, description="why the outcome or the state is what it is, in words")
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    student: str
    tasks: list[str]
    images: StageCount
    shards: StageCount
    pairs: int = 0
    verdicts: dict[Verdict, int] = Field(default_factory=dict)
    rate_images_per_second: float | None = None
    eta_seconds: float | None = None
    discrepancies: dict[str, Distribution] = Field(
        default_factory=dict, description="confidence, reasoning and attention of the kept pairs, as far as measured"
    )
    teacher_tokens: TokenCount = TokenCount()
    training: TrainingProgress | None = None
    evaluation: Evaluation | None = None
    checkpoint: str | None = Field(None, description="version that the job made")
    set_url: str | None = None
    checkpoint_url: str | None = None
    last_error: str | None = None
    waiting_for: str | None = Field(None, description="what the job waits for at present, e.g. the teacher being down")
    round: int = Field(1, description="the present round")
    rounds: int = Field(1, description="rounds at most")
    past_rounds: list[RoundReport] = Field(default_factory=list, description="rounds that are over, if rounds > 1")
    version: int = Field(0, description="grows with every change; the ETag")


class JobList(Contract):
    jobs: list[JobStatus]
    next_cursor: str | None = None


class JobReport(Stored):
    """``jobs/<id>/report.json`` and ``GET /v1/jobs/{id}/report``: the final status and what a run is reproduced
    from.
    """

    status: JobStatus
    spec: JobSpec
    set_digest: str | None = None
    seconds: dict[str, float] = Field(default_factory=dict, description="wall time by state")


class Pair(Contract):
    """One row of the disparity set as the API shows it. Answers are None where the funnel ended before them."""

    pair_id: str
    image: str
    task: str
    split: Split
    verdict: Verdict
    reason: str = ""
    question: str | None = None
    teacher_answer: str | None = None
    student_answer: str | None = None
    vote_share: float | None = None
    votes: list[str] = Field(default_factory=list)
    teacher_logprob: float | None = Field(None, description="mean token log-probability of the teacher's answer, nats")
    student_logprob: float | None = Field(
        None, description="mean token log-probability of the student's own answer, nats"
    )
    student_version: str | None = None
    rationale: str | None = None
    confidence_gap: float | None = None
    reasoning_gap: float | None = None
    attention_gap: float | None = None


class PairPage(Contract):
    pairs: list[Pair]
    next_cursor: str | None = None


class UploadReceipt(Contract):
    upload_id: str
    images: int
    bytes: int


class TaskInfo(Contract):
    """A task profile that jobs may name."""

    name: str
    metric: str


class TaskList(Contract):
    tasks: list[TaskInfo]


class TrainingInfo(Contract):
    """``GET /v1/trainings/{job_id}`` of the trainer. ``losses``: (step, loss), thinned out evenly."""

    job_id: str
    state: JobState
    progress: TrainingProgress | None = None
    evaluation: Evaluation | None = None
    checkpoint: str | None = None
    last_error: str | None = None
    waiting_for: str | None = None
    losses: list[tuple[int, float]] = Field(default_factory=list)


class TrainingList(Contract):
    trainings: list[TrainingInfo]


class JobEvent(Contract):
    """One SSE event of ``GET /v1/jobs/{id}/events``."""

    version: int
    status: JobStatus


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str


# ---------------------------------------------------------------- checkpoints


class CardFile(Contract):
    name: str
    size: int
    sha256: str


class SmokeAnswer(Contract):
    """A greedy answer recorded when the checkpoint was made; a server asks the same before it serves the checkpoint."""

    question: str
    answer: str
    image_png_base64: str


class CardAdapter(Contract):
    """A LoRA adapter in the checkpoint's folder ``adapter/`` (PEFT's files): ``base`` with it answers as the merged
    weights do.
    """

    base: str = Field(description="version to whose weights it applies")
    rank: int = Field(ge=1, description="the largest rank of its modules")


class CheckpointCard(Stored):
    """``mpa_card.json``: the lineage of a checkpoint."""

    version: str = Field(pattern=NAME_PATTERN)
    student: str
    base: str | None = Field(None, description="version it was trained from; None for a base model")
    job_id: str | None = None
    created_at: datetime
    digest: str = Field(description="sha256 over the sorted (name, sha256) of files")
    files: list[CardFile]
    set_digest: str | None = None
    seed: int | None = None
    train: TrainSpec | None = None
    loss: dict[str, float] = Field(
        default_factory=dict, description="loss terms and their weights; last training loss under 'final'"
    )
    evaluation: Evaluation | None = None
    smoke: SmokeAnswer | None = None
    packages: dict[str, str] = Field(
        default_factory=dict, description="versions of torch, transformers, … that made it"
    )
    teacher: str | None = None
    adapter: CardAdapter | None = Field(None, description="the same change as an adapter, where it was trained as one")


class ActivePointer(Stored):
    """``checkpoints/<student>/active.json``: which version should serve; ``previous`` is what a rollback returns to."""

    student: str
    version: str
    previous: str | None = None
    promoted_by: str
    promoted_at: datetime
    generation: int = Field(ge=0)


class CheckpointInfo(Contract):
    version: str
    url: str
    digest: str
    active: bool
    base: str | None = None
    job_id: str | None = None
    created_at: datetime | None = None
    agreement_before: float | None = None
    agreement_after: float | None = None


class CheckpointList(Contract):
    student: str
    active: str
    previous: str | None = None
    checkpoints: list[CheckpointInfo]


class ActivateRequest(Contract):
    """``PUT /v1/checkpoints/active``. ``by`` says who promotes (a job id, a person)."""

    version: str = Field(pattern=NAME_PATTERN)
    by: str = "api"
    deadline_seconds: float | None = Field(
        None,
        gt=0,
        description="answer by then, swapped or refused; at most (and by default) the service's swap timeout",
    )


class SwapResult(Contract):
    version: str
    previous: str | None
    changed: bool
    seconds: float


# ---------------------------------------------------------------- rollout


class CanaryState(StrEnum):
    """``promoting``: somebody's call or the rule has decided, and the swap is on its way."""

    RUNNING = "running"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        return self in (CanaryState.PROMOTED, CanaryState.ABORTED)


class CanaryRule(Contract):
    """When the replicas end a canary by themselves. Nothing is judged before ``min_requests`` candidate answers.

    A broken limit aborts; all limits kept promote, if ``promote`` is set. A limit of None is not looked at.
    """

    min_requests: int = Field(200, ge=1)
    min_seconds: float = Field(0.0, ge=0, description="promote no earlier than this after the start")
    max_error_rate: float | None = Field(0.01, ge=0, le=1, description="candidate answers that failed")
    max_latency_ratio: float | None = Field(1.5, gt=0, description="candidate's p95 over the active version's")
    min_agreement: float | None = Field(
        None, ge=0, le=1, description="share of compared answers equal to the active one's"
    )
    max_seconds: float | None = Field(None, gt=0, description="abort what is not decided after this time")
    promote: bool = Field(False, description="True: promote by rule; False: the rule only aborts")


class CanaryRequest(Contract):
    """``PUT /v1/rollout/canary``: serve ``version`` beside the active one to ``share`` of the requests.

    ``compare``: share of the candidate's greedy answers whose question the active version answers too, in the
    background, to count agreement. With share 0 the candidate is private: it answers only those who ask for
    ``student@<version>``, and ends by itself ``lifetime_seconds`` after the last call that asked for it.
    """

    version: str = Field(pattern=NAME_PATTERN)
    share: float = Field(0.05, ge=0, le=1)
    compare: float = Field(1.0, ge=0, le=1)
    rule: CanaryRule | None = None
    lifetime_seconds: float | None = Field(None, gt=0, description="of a private candidate, unless asked for again")
    by: str = "api"

    @model_validator(mode="after")
    def _private_ones_end(self) -> CanaryRequest:
        if (self.share == 0) != (self.lifetime_seconds is not None):
            raise ValueError("share 0 (a private candidate) needs lifetime_seconds, and no other share takes it")
        return self


class CanaryDecision(Contract):
    """``POST /v1/rollout/canary/promote`` and ``…/abort``: who decides, and why."""

    by: str = "api"
    reason: str = Field("by call", max_length=500)


class Canary(Stored):
    """The latest canary of a student, as the registry keeps it. ``baseline`` is what was active when it began."""

    id: str
    revision: int = Field(ge=0, description="grows with every change, over all canaries of the student")
    student: str
    version: str
    baseline: str
    share: float
    compare: float
    rule: CanaryRule | None
    state: CanaryState
    started_by: str
    started_at: datetime
    changed_by: str
    changed_at: datetime
    reason: str = ""
    expires_at: datetime | None = Field(None, description="of a private candidate: when it ends unless asked for again")

    @property
    def is_private(self) -> bool:
        """Whether it gets no request that did not ask for its version."""
        return self.share == 0


class VersionStats(Contract):
    """How one version did during a canary. Latencies in seconds, of whole answers; None before the first."""

    version: str
    requests: int = 0
    errors: int = Field(0, description="requests the version failed; the candidate's were answered by the active one")
    latency_mean: float | None = None
    latency_p50: float | None = None
    latency_p95: float | None = None
    latency_p99: float | None = None


class CanaryReport(Contract):
    """A canary and what all replicas counted since it began. ``verdict``: what its rule says at present."""

    canary: Canary
    active: VersionStats
    candidate: VersionStats
    compared: int = 0
    agreement: float | None = None
    verdict: str = ""


class ReplicaInfo(Contract):
    """What one replica says about itself. ``problem``: why it serves something other than it should."""

    id: str
    address: str = Field("", description="host:port it listens on, as it knows it")
    version: str
    generation: int | None = Field(None, description="of the active pointer that it has followed so far")
    candidate: str | None = Field(None, description="version that it serves beside, as a canary")
    problem: str = ""
    queued: int = 0
    started_at: datetime
    seen_at: datetime


class RolloutView(Contract):
    """``GET /v1/rollout``. ``complete`` False: Redis is not to be had, so only the replica that answers is listed."""

    student: str
    active: ActivePointer
    converged: bool = Field(
        description="all replicas listed serve the active version, and the candidate if there is one"
    )
    replicas: list[ReplicaInfo]
    complete: bool
    canary: CanaryReport | None = None


# ---------------------------------------------------------------- scoring


class ScoreItem(Contract):
    """Answers to score for one image (data URL) and question."""

    image: str
    question: str
    answers: list[str] = Field(min_length=1, max_length=64)


class ScoreRequest(Contract):
    """``model``: ``student``, or ``student@<version>`` for a version that is served beside; empty: what serves."""

    items: list[ScoreItem] = Field(min_length=1, max_length=256)
    model: str = ""


class AnswerScore(Contract):
    answer: str
    logprob: float = Field(description="sum of token log-probabilities, nats")
    mean_logprob: float
    tokens: list[str]
    token_logprobs: list[float]


class ScoreResponse(Contract):
    checkpoint: str
    scores: list[list[AnswerScore]] = Field(description="[item][answer]")


class AttentionItem(Contract):
    """An image (data URL), a question about it and an answer."""

    image: str
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class AttentionRequest(Contract):
    """``POST /v1/attention``: where the model looks while it gives each answer."""

    items: list[AttentionItem] = Field(min_length=1, max_length=32)
    model: str = Field("", description="student@<version> asks the student for that version; empty: what serves")
    grid: int = Field(8, ge=1, le=32, description="rows and columns of the maps")


class AttentionGrid(Contract):
    """``values`` [grid][grid], rows from the top, sum 1; ``image_share``: the image's part of all attention."""

    values: list[list[float]]
    image_share: float


class AttentionResponse(Contract):
    """``version``: the checkpoint (student) or model (teacher); ``layers``: whose heads were averaged."""

    version: str
    layers: list[int]
    maps: list[AttentionGrid]


# ---------------------------------------------------------------- OpenAI chat completions (the part of the wire we
# speak)


class ImageURL(BaseModel):
    model_config = ConfigDict(extra="ignore")
    url: str
    detail: str | None = None


class ImagePart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["image_url"]
    image_url: ImageURL


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


ContentPart = Annotated[ImagePart | TextPart, Field(discriminator="type")]


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(BaseModel):
    """The parameters we honour; any other is refused with an OpenAI-shaped error, not ignored."""

    model_config = ConfigDict(extra="forbid")
    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, ge=1, le=16)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    user: str | None = None


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob] = []


class ChoiceLogprobs(BaseModel):
    content: list[TokenLogprob] | None = None


class AnswerMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None = None


class Choice(BaseModel):
    index: int = 0
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str | None = None


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ChatResponse(BaseModel):
    """Lenient on purpose (extra fields of other servers are ignored): any OpenAI-compatible endpoint may be the
    teacher.
    """

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None
    choices: list[Choice]
    usage: Usage | None = None


class ModelInfo(BaseModel):
    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "mpa"
    checkpoint: str | None = None
    active: bool | None = Field(None, description="whether requests for this id are answered now")


class ModelList(BaseModel):
    object: str = "list"
    data: list[ModelInfo]


# ---------------------------------------------------------------- health


class Health(Contract):
    """``/readyz``: ready says whether real work would be served now; ``reason`` says why not."""

    service: str
    ready: bool
    reason: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class Alive(Contract):
    """``/healthz``: the process answers, and which release of MPA it is. Empty: a release before it was told."""

    service: str
    status: str = "alive"
    release: str = ""
    schema_version: int = 1


class FindingState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    SKIPPED = "skipped"


class Finding(Contract):
    """One line of `mpa doctor`: what was looked at, what was found, and what to do about it."""

    check: str
    state: FindingState
    found: str
    fix: str = ""


class Diagnosis(Contract):
    """`mpa doctor --json`. Healthy: nothing is broken; warnings may remain."""

    healthy: bool
    release: str
    findings: list[Finding]


class WorkerInfo(Contract):
    """What a worker says about itself while it lives. ``kind``: parity or trainer."""

    id: str
    kind: str
    host: str
    release: str
    schema_version: int = 1
    started_at: datetime
    seen_at: datetime
