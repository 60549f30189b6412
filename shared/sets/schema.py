"""The rows of a disparity set: one for each pair, whatever its verdict.

A set is the folder ``jobs/<id>/set/`` with one Parquet file per shard and one row per pair (all verdicts), in manifest
order. It holds no image bytes: ``image`` says where the image is, ``image_sha256`` which bytes it had. It uses plain
Arrow types, so ``datasets.load_dataset("parquet", data_files="…/set/*.parquet")`` opens it. Readers ignore columns that
they do not know, and see null where an older file lacks a column. If that would be wrong, the writer raises the number
under ``mpa.schema`` in the file's metadata (1 if it is missing). Columns:

    pair_id            string   unique in the job: <image_index>.<task>.<slot>, and .r<round> from round 2 on
    job_id             string
    shard              int32    with S shards per round, part s of round r has (r - 1) · S + s
    image_index        int32    line of the job's manifest
    slot               int32    which of the questions of this image and task, 0 … questions_per_image - 1
    image              string   absolute path or URL
    image_sha256       string   of the file's bytes; null if it could not be opened
    task               string   name of the task profile
    split              string   train | held_out (never trained on)
    verdict            string   contracts.Verdict
    reason             string   why, in words, where the verdict alone does not say it
    question           string   null if the funnel ended earlier; so are the next columns
    teacher_answer     string   the pseudo-label
    student_answer     string
    student_version    string   checkpoint that gave student_answer
    votes              list     the teacher's answers when asked again
    vote_share         float64  fraction of votes that match teacher_answer, 0-1
    teacher_logprob    float64  mean token log-probability of teacher_answer, nats
    student_logprob    float64  mean token log-probability of student_answer, nats
    gap_logprob        float64  mean token log-probability of teacher_answer under the student, nats
    teacher_top        list     for each token of teacher_answer and its end token, a list of {token, logprob}: the
                                teacher's likeliest alternatives, best first; null if the job did not ask for it
    rationale          string   the teacher's one sentence on why teacher_answer is right
    teacher_rationale_logprob, student_rationale_logprob
                       float64  mean token log-probability of rationale under each model, nats
    confidence_gap, reasoning_gap, attention_gap
                       float64  discrepancies of the pair in [0, 1], by shared/discrepancies.py; null where unknown
    image_note         string   what is read of a file that is not read whole and exactly, such as the first page of
                                a TIFF; null for other files, and in older sets
    cause              string   contracts.Cause: what ``reason`` says, as a word that can be counted; null for most
                                pairs, and in older sets
    round              int32    mining round, from 1; null in sets from before there were rounds
    teacher_attention  list     of float16: where the teacher looks in the image while it gives teacher_answer, a
                                grid × grid map row by row from the top, sum 1; null if the job did not ask for it
    student_attention  list     the student's map for the same answer
    teacher_model      string
    prompt_tokens      int64    teacher tokens spent on this row (a request for several rows counts in the first)
    completion_tokens  int64
    saved_tokens       int64    estimated cost of verifying this row, if it was not verified
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from shared.contracts import Cause, Split, Verdict

_ALTERNATIVE = pa.struct([pa.field("token", pa.string()), pa.field("logprob", pa.float64())])
SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("job_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("image_index", pa.int32(), nullable=False),
        pa.field("slot", pa.int32(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_sha256", pa.string()),
        pa.field("task", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("question", pa.string()),
        pa.field("teacher_answer", pa.string()),
        pa.field("student_answer", pa.string()),
        pa.field("student_version", pa.string()),
        pa.field("votes", pa.list_(pa.string()), nullable=False),
        pa.field("vote_share", pa.float64()),
        pa.field("teacher_logprob", pa.float64()),
        pa.field("student_logprob", pa.float64()),
        pa.field("gap_logprob", pa.float64()),
        pa.field("teacher_top", pa.list_(pa.list_(_ALTERNATIVE))),
        pa.field("rationale", pa.string()),
        pa.field("teacher_rationale_logprob", pa.float64()),
        pa.field("student_rationale_logprob", pa.float64()),
        pa.field("confidence_gap", pa.float64()),
        pa.field("reasoning_gap", pa.float64()),
        pa.field("attention_gap", pa.float64()),
        pa.field("teacher_attention", pa.list_(pa.float16())),
        pa.field("student_attention", pa.list_(pa.float16())),
        pa.field("teacher_model", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int64(), nullable=False),
        pa.field("completion_tokens", pa.int64(), nullable=False),
        pa.field("saved_tokens", pa.int64(), nullable=False),
        pa.field("round", pa.int32()),
        pa.field("image_note", pa.string()),
        pa.field("cause", pa.string()),
    ],
    metadata={"mpa.schema": "1"},
)


@dataclass(frozen=True)
class Alternative:
    """A token that the teacher might have said, with its log-probability in nats."""

    token: str
    logprob: float


@dataclass(frozen=True)
class Row:
    """One pair; the fields are the columns above."""

    job_id: str
    shard: int
    image_index: int
    slot: int
    image: str
    image_sha256: str | None
    task: str
    split: Split
    verdict: Verdict
    reason: str = ""
    question: str | None = None
    teacher_answer: str | None = None
    student_answer: str | None = None
    student_version: str | None = None
    votes: tuple[str, ...] = field(default_factory=tuple)
    vote_share: float | None = None
    teacher_logprob: float | None = None
    student_logprob: float | None = None
    gap_logprob: float | None = None
    teacher_top: tuple[tuple[Alternative, ...], ...] | None = None
    rationale: str | None = None
    teacher_rationale_logprob: float | None = None
    student_rationale_logprob: float | None = None
    confidence_gap: float | None = None
    reasoning_gap: float | None = None
    attention_gap: float | None = None
    teacher_attention: tuple[float, ...] | None = None
    student_attention: tuple[float, ...] | None = None
    teacher_model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    saved_tokens: int = 0
    round: int = 1
    image_note: str | None = None
    cause: Cause | None = None

    @property
    def pair_id(self) -> str:
        again = f".r{self.round}" if self.round > 1 else ""
        return f"{self.image_index:07d}.{self.task}.{self.slot}{again}"
