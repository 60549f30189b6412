"""The probe of a real teacher service process, above a small model server in vLLM's place."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.services.teacher.small import RED_PIXELS, Service, SmallModel
from tests.tiny_models import build_tiny_idefics3

pytestmark = pytest.mark.slow  # starts real processes
BODY = {"items": [{"image": RED_PIXELS, "question": "what is this?", "answer": "red"}], "grid": 4}


def start(tmp_path: Path, **settings: str) -> Service:
    small = SmallModel(tmp_path / "small")
    wanted = {"MPA_TEACHER_VLLM_PYTHON": str(small.interpreter()), "SMALL_FOLDER": str(small.folder), **settings}
    return Service(tmp_path / "service.log", **wanted)


def test_where_the_teacher_looks(tmp_path: Path) -> None:
    model = build_tiny_idefics3(tmp_path / "model", seed=3)
    with start(tmp_path, MPA_ATTENTION_PROBE="true", MPA_TEACHER_MODEL=str(model)) as service:
        service.wait_ready()
        assert service.readiness()["details"]["attention"] is True
        response = httpx.post(f"{service.url}/v1/attention", json=BODY, timeout=120)
        assert response.status_code == 200, response.text
        found = response.json()
        assert found["version"] == str(model) and sum(map(sum, found["maps"][0]["values"])) == pytest.approx(
            1, abs=1e-4
        )


def test_off_by_default(tmp_path: Path) -> None:
    with start(tmp_path) as service:
        service.wait_ready()
        response = httpx.post(f"{service.url}/v1/attention", json=BODY, timeout=30)
        assert response.status_code == 403 and "MPA_ATTENTION_PROBE" in response.json()["detail"]
