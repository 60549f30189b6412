"""Disparity sets: schema, write a shard, read a set, its digest, export to LLaVA.

A set is the folder ``jobs/<id>/set/`` with one Parquet file a shard, one row a pair (all verdicts), in manifest order.
It holds no image bytes: ``image`` says where the image is, ``image_sha256`` which bytes it had. Plain Arrow types, so
``datasets.load_dataset("parquet", data_files="…/set/*.parquet")`` opens it. Readers ignore columns that they do not
know, and see null where an older file has none; a writer for whom that would be wrong raises the number in the file's
metadata ``mpa.schema`` (1 where it is missing). Columns:

    pair_id            string   unique in the job: <image_index>.<task>.<slot>, and .r<round> from round 2 on
    job_id             string
    shard              int32    of S shards a round, that of round r and part s is (r - 1) · S + s
    image_index        int32    line of the job's manifest
    slot               int32    which of the questions of this image and task, 0 … questions_per_image - 1
    image              string   absolute path or URL
    image_sha256       string   of the file's bytes; null if it could not be opened
    task               string   name of the task profile
    split              string   train | held_out (never trained on)
    verdict            string   contracts.Verdict
    reason             string   why, in words, where the verdict alone does not say it
    question           string   null where the funnel ended before it; so are the next ones
    teacher_answer     string   the pseudo-label
    student_answer     string
    student_version    string   checkpoint that gave student_answer
    votes              list     the teacher's answers when asked again
    vote_share         float64  fraction of votes that match teacher_answer, 0-1
    teacher_logprob    float64  mean token log-probability of teacher_answer, nats
    student_logprob    float64  mean token log-probability of student_answer, nats
    gap_logprob        float64  mean token log-probability of teacher_answer under the student, nats
    teacher_top        list     for each token of teacher_answer and its end a list of {token, logprob}: the teacher's
                                likeliest alternatives, best first; null where the job did not ask
    rationale          string   the teacher's one sentence on why teacher_answer is right
    teacher_rationale_logprob, student_rationale_logprob
                       float64  mean token log-probability of rationale under each model, nats
    confidence_gap, reasoning_gap, attention_gap
                       float64  discrepancies of the pair in [0, 1], by shared/discrepancies.py; null where unknown
    round              int32    mining round, from 1; null in sets from before there were rounds
    teacher_attention  list     of float16: where the teacher looks in the image while it gives teacher_answer, a
                                grid × grid map row by row from the top, sum 1; null where the job did not ask
    student_attention  list     the same of the student, for the same answer
    teacher_model      string
    prompt_tokens      int64    teacher tokens spent on this row (a request for several rows counts in the first)
    completion_tokens  int64
    saved_tokens       int64    estimate of what verifying this row would have cost, where it was not asked
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.compatibility import check_schema
from shared.contracts import Pair, Split, Verdict
from shared.discrepancies import NAMES, Histogram, histogram, merged
from shared.state import ShardResult
from shared.store import Store

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
    ],
    metadata={"mpa.schema": "1"},
)
# What a set says, without where it was made, by whom it was asked for, or what it cost: equal sets have equal digests.
DIGEST_COLUMNS = (
    "image_sha256",
    "task",
    "slot",
    "split",
    "verdict",
    "question",
    "teacher_answer",
    "student_answer",
    "votes",
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

    @property
    def pair_id(self) -> str:
        again = f".r{self.round}" if self.round > 1 else ""
        return f"{self.image_index:07d}.{self.task}.{self.slot}{again}"


def set_prefix(job_id: str) -> str:
    return f"jobs/{job_id}/set"


def shard_key(job_id: str, shard: int) -> str:
    return f"{set_prefix(job_id)}/shard-{shard:05d}.parquet"


def write_shard(store: Store, job_id: str, shard: int, rows: Iterable[Row]) -> ShardResult:
    """Publish a shard whole, unless it is there: the first writer wins, and what is stored is what is summed up."""
    ordered = sorted(rows, key=lambda row: (row.image_index, row.task, row.slot))
    columns = [{"pair_id": row.pair_id, **asdict(row), "votes": list(row.votes), **_maps(row)} for row in ordered]
    table = pa.Table.from_pylist(columns, schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    if store.create(shard_key(job_id, shard), buffer.getvalue()):
        return summarise(table)
    return summarise(read_shard(store, job_id, shard))


def _maps(row: Row) -> dict[str, Any]:
    maps = {"teacher_attention": row.teacher_attention, "student_attention": row.student_attention}
    return {name: None if values is None else list(values) for name, values in maps.items()}


def read_shard(store: Store, job_id: str, shard: int) -> pa.Table:
    """One shard's rows. Raises NotFound."""
    return _table(store.read(shard_key(job_id, shard)))


def shard_numbers(store: Store, job_id: str) -> list[int]:
    """The shards that are finished, sorted."""
    names = [key.rsplit("/", 1)[1] for key in store.list(set_prefix(job_id)) if key.endswith(".parquet")]
    found = {int(name.removeprefix("shard-").removesuffix(".parquet")) for name in names}
    if store.lists_at_once:
        return sorted(found)
    # A listing may lag, and a training must not miss the last shards of its set.
    found.update(n for n in range(max(found, default=-1)) if n not in found and store.exists(shard_key(job_id, n)))
    while store.exists(shard_key(job_id, following := max(found, default=-1) + 1)):
        found.add(following)
    return sorted(found)


def read_set(
    store: Store,
    job_id: str,
    *,
    verdicts: Sequence[Verdict] | None = None,
    split: Split | None = None,
    rounds: Sequence[int] | None = None,
) -> pa.Table:
    """All finished rows, round by round in manifest order, of these verdicts, this split and these rounds."""
    tables = [_chosen(table, verdicts, split, rounds) for table in _shards(store, job_id)]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def set_digest(store: Store, job_id: str) -> str:
    """sha256 over what the rows say, in order: runs that found the same have the same digest, whatever was re-run."""
    digest = hashlib.sha256()
    for table in _shards(store, job_id):
        for row in table.select(DIGEST_COLUMNS).to_pylist():
            digest.update(json.dumps([row[name] for name in DIGEST_COLUMNS], ensure_ascii=False).encode())
            digest.update(b"\n")
    return digest.hexdigest()


def summarise(table: pa.Table) -> ShardResult:
    """The counts of a shard, from its rows alone."""
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(table["verdict"]).to_pylist()}
    kept = pc.and_(pc.equal(table["verdict"], str(Verdict.DISPARITY)), pc.equal(table["split"], str(Split.TRAIN)))
    return ShardResult(
        images=len(pc.unique(table["image_index"])),
        verdicts={str(verdict): int(count) for verdict, count in sorted(counts.items())},
        prompt_tokens=int(pc.sum(table["prompt_tokens"]).as_py() or 0),
        completion_tokens=int(pc.sum(table["completion_tokens"]).as_py() or 0),
        saved_tokens=int(pc.sum(table["saved_tokens"]).as_py() or 0),
        train_disparity=int(pc.sum(kept).as_py() or 0),
        gaps=_gaps({name: table[f"{name}_gap"].to_pylist() for name in NAMES}),
    )


def tally(rows: Iterable[Row]) -> ShardResult:
    """The same counts for rows that are not written yet."""
    chosen = list(rows)
    return ShardResult(
        images=len({row.image_index for row in chosen}),
        verdicts={str(v): n for v, n in sorted(Counter(row.verdict for row in chosen).items())},
        prompt_tokens=sum(row.prompt_tokens for row in chosen),
        completion_tokens=sum(row.completion_tokens for row in chosen),
        saved_tokens=sum(row.saved_tokens for row in chosen),
        train_disparity=sum(row.verdict is Verdict.DISPARITY and row.split is Split.TRAIN for row in chosen),
        gaps=_gaps({name: [getattr(row, f"{name}_gap") for row in chosen] for name in NAMES}),
    )


def _gaps(columns: Mapping[str, Iterable[float | None]]) -> dict[str, Histogram]:
    return merged([{name: histogram(values) for name, values in columns.items()}])


def to_pair(row: dict[str, Any]) -> Pair:
    """A row (of ``Table.to_pylist``) as the API shows it."""
    return Pair.model_validate({name: row[name] for name in Pair.model_fields})


def export_llava(store: Store, job_id: str) -> list[dict[str, Any]]:
    """The disparity pairs of the train split in LLaVA's conversation format, ready for ``json.dump``."""
    rows = read_set(store, job_id, verdicts=[Verdict.DISPARITY], split=Split.TRAIN).to_pylist()
    return [
        {
            "id": f"{job_id}/{row['pair_id']}",
            "image": row["image"],
            "conversations": [
                {"from": "human", "value": f"<image>\n{row['question']}"},
                {"from": "gpt", "value": row["teacher_answer"]},
            ],
        }
        for row in rows
    ]


def _shards(store: Store, job_id: str) -> Iterator[pa.Table]:
    for shard in shard_numbers(store, job_id):
        yield read_shard(store, job_id, shard)


def _table(data: bytes) -> pa.Table:
    file = pq.ParquetFile(io.BytesIO(data))
    check_schema(int((file.metadata.metadata or {}).get(b"mpa.schema", b"1")), "The shard")
    return pq.read_table(io.BytesIO(data), schema=SCHEMA)


def _chosen(
    table: pa.Table, verdicts: Sequence[Verdict] | None, split: Split | None, rounds: Sequence[int] | None
) -> pa.Table:
    if rounds is not None:
        table = table.filter(pc.is_in(pc.fill_null(table["round"], 1), pa.array(rounds, pa.int32())))
    if verdicts is not None:
        table = table.filter(pc.is_in(table["verdict"], pa.array([str(v) for v in verdicts], pa.string())))
    return table if split is None else table.filter(pc.equal(table["split"], str(split)))
