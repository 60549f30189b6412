"""Export pairs through the API to one file, streaming page by page."""

from __future__ import annotations

import json
from pathlib import Path

from shared.client import ParityClient
from shared.contracts import Pair, Verdict
from shared.errors import InvalidInput
from shared.files import replacing


async def export_set(client: ParityClient, job_id: str, output: Path, format: str, verdict: Verdict) -> int:
    """Write all pairs of ``verdict`` to ``output``; returns their number. The file appears whole or not at all."""
    pairs: list[Pair] = []
    cursor: str | None = None
    while True:
        page = await client.pairs(job_id, verdict=verdict.value, cursor=cursor, limit=1000)
        pairs += page.pairs
        cursor = page.next_cursor
        if cursor is None:
            break
    try:
        with replacing(output) as partial:
            _write_llava(pairs, partial) if format == "llava" else _write_parquet(pairs, partial)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}. Choose another --output.") from error
    return len(pairs)


def llava_record(pair: Pair) -> dict[str, object]:
    """One LLaVA training record (https://github.com/haotian-liu/LLaVA, docs/Finetune_Custom_Data.md)."""
    return {
        "id": pair.pair_id,
        "image": pair.image,
        "conversations": [
            {"from": "human", "value": f"<image>\n{pair.question}"},
            {"from": "gpt", "value": pair.teacher_answer},
        ],
    }


def _write_llava(pairs: list[Pair], path: Path) -> None:
    path.write_text(json.dumps([llava_record(p) for p in pairs], indent=1, ensure_ascii=False), encoding="utf-8")


def _write_parquet(pairs: list[Pair], path: Path) -> None:
    import pyarrow as pa  # installed with the extra `queue`; only this format needs it
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([p.model_dump(mode="json") for p in pairs]), path)
