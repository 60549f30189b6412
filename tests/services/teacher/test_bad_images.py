"""Images that are damaged or far too large never reach the teacher's model, and it goes on answering."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from shared.images import to_data_url
from tests.services.teacher.small import Service, SmallModel, chat

pytestmark = pytest.mark.slow  # starts and kills real processes


def noise_png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((96, 96), 90).convert("RGB").save(file, "PNG")
    return file.getvalue()


def hundred_megapixels() -> bytes:
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    return SmallModel(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def service(small: SmallModel) -> Iterator[Service]:
    settings = {"MPA_TEACHER_VLLM_PYTHON": str(small.interpreter()), "SMALL_FOLDER": str(small.folder)}
    with Service(small.folder / "service.log", **settings) as started:
        started.wait_ready()
        yield started


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (noise_png()[:2000], "damaged or truncated"),
        (hundred_megapixels(), "10000×10000 pixels, more than the limit"),
    ],
)
def test_an_image_that_cannot_be_decoded_safely_is_refused(
    service: Service, small: SmallModel, image: bytes, words: str
) -> None:
    seen = len(small.notes("body"))
    response = service.post(chat(image=to_data_url(image)))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and words in error["message"]
    assert len(small.notes("body")) == seen
    assert service.post(chat()).status_code == 200
