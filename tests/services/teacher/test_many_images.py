"""A request with many images is refused before any is decoded: decoded, they could take all memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.teacher.small import Service, SmallModel, chat

pytestmark = pytest.mark.slow  # starts and kills real processes


def test_fifty_images_are_too_many(tmp_path: Path) -> None:
    small = SmallModel(tmp_path)
    settings = {"MPA_TEACHER_VLLM_PYTHON": str(small.interpreter()), "SMALL_FOLDER": str(tmp_path)}
    with Service(tmp_path / "service.log", **settings) as service:
        service.wait_ready()
        body = chat()
        body["messages"][0]["content"][:1] *= 50
        response = service.post(body)
        assert response.status_code == 400
        assert "has 50 images; at most 8 are read (MPA_TEACHER_MAX_IMAGES)" in response.json()["error"]["message"]
        assert service.post(chat()).status_code == 200
