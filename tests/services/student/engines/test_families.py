"""Every model family behind the student's engine, in the dtypes it serves."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.student.engines.transformers.engine import TransformersEngine
from shared.settings import StudentSettings
from tests.services.student.asking import question, said
from tests.tiny_families import FAMILIES, seeded


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
async def test_a_student_of_every_family_answers_scores_and_swaps(family: str, dtype: str, tmp_path: Path) -> None:
    settings = StudentSettings(data_dir=tmp_path, student_dtype=dtype, student_max_wait=timedelta(milliseconds=1))
    one, other = (seeded(family, tmp_path / str(seed), seed) for seed in (1, 2))
    engine = await TransformersEngine.start(settings, "one", one, None)
    try:
        version, tokens = await said(engine)
        scored = await engine.score([(question(), ["red", "two words"])])
        assert version == "one" and tokens
        assert [score.answer for score in scored.scores[0]] == ["red", "two words"]
        await engine.swap("other", other, None)
        later, new_tokens = await said(engine)
        assert later == "other" and new_tokens != tokens
    finally:
        await engine.close()
