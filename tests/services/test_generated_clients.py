"""A client that a generator writes from a service's OpenAPI document does the work, and reads the errors that it meets.

The generator needs another release of typer than this project, so pip installs it into a folder of its own.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.described_services import KEY, NAMES, document, served

API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"
REQUIREMENTS = Path(__file__).with_name("generator.txt")
Generate = Callable[[str], None]
"""Writes the client of the named service, which is then the package of this name with ``_client`` behind it."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generate]:
    folder = tmp_path_factory.mktemp("generated")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder / "generator"]
    subprocess.run([*pip, "-r", REQUIREMENTS], check=True, timeout=240)

    def run(name: str) -> None:
        client, description = folder / f"{name}_client", folder / f"{name}.json"
        if client.is_dir():
            return
        description.write_text(json.dumps(document(name)), encoding="utf-8")
        command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", description]
        command += ["--output-path", client, "--meta=none", "--fail-on-warning"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it runs ruff
        environment = {**os.environ, "PYTHONPATH": str(folder / "generator"), "PATH": path}
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    sys.path.insert(0, str(folder))
    yield run
    sys.path.remove(str(folder))


@pytest.mark.parametrize("name", NAMES)
def test_a_client_is_written_without_a_warning(name: str, generate: Generate) -> None:
    generate(name)
    assert part(f"{name}_client.api.health.readyz").sync


def test_a_client_uploads_submits_and_reads_errors(generate: Generate, tmp_path: Path, redis_url: str) -> None:
    generate("parity")
    models, jobs = part("parity_client.models"), "parity_client.api.jobs"
    submit, get, cancel = part(f"{jobs}.submit_job"), part(f"{jobs}.get_job"), part(f"{jobs}.cancel_job")
    upload, pairs = part("parity_client.api.inputs.upload_images"), part("parity_client.api.results.list_pairs")
    file = part("parity_client.types").File(payload=zipped(), file_name="pictures.zip", mime_type="application/zip")
    make = part("parity_client").AuthenticatedClient
    with served("parity", tmp_path, redis_url) as url, make(url, KEY) as client:
        receipt = upload.sync(client=client, body=models.Upload(files=[file]))
        assert (receipt.images, receipt.left_out[0].files) == (3, 1)
        source = models.UploadSource(upload_id=receipt.upload_id)
        for images in (source, [source]):
            job = submit.sync(client=client, body=models.JobSpecInput(images=images, tasks=["textvqa"]))
            assert (job.state, job.images.total) == (models.JobState.QUEUED, 3)
            assert get.sync(job.id, client=client).tasks == ["textvqa"]
            assert pairs.sync(job.id, client=client, verdict=[models.Verdict.DISPARITY]).pairs == []
            assert cancel.sync(job.id, client=client).state == models.JobState.CANCELLED
        specs = [models.JobSpecInput(images=source, tasks=[task]) for task in ("textvqa", "chartqa", "chess")]
        secret = models.JobSpecInput(images=models.FolderSource(path="/etc"), tasks=["textvqa"])
        assert submit.sync(client=client, body=specs[0], idempotency_key="once").images.total == 3
        errors = {
            401: submit.sync(client=make(url, "guessed"), body=specs[0]),
            403: submit.sync(client=client, body=secret),
            404: get.sync("no-such-job", client=client),
            409: submit.sync(client=client, body=specs[1], idempotency_key="once"),
            422: submit.sync(client=client, body=specs[2]),
        }
        assert {status: error.status for status, error in errors.items()} == {status: status for status in errors}
        assert all(isinstance(error, models.Problem) for error in errors.values())
        assert "no-such-job" in errors[404].detail and "'chess' unknown" in errors[422].detail


def test_the_example_of_the_docs_works(
    generate: Generate, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    generate("parity")
    (code,) = re.findall(r"```python\n(.*?parity_client.*?)```", API_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "pictures.zip").write_bytes(zipped())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPA_API_KEY", KEY)
    with served("parity", tmp_path, redis_url) as url:
        exec(code.replace("http://127.0.0.1:8100", url), {})
        assert capsys.readouterr().out == "3 images stored\nqueued\n"
        monkeypatch.setenv("MPA_API_KEY", "guessed")
        with pytest.raises(SystemExit, match=r"401 A valid API key is required: Send the service's API key"):
            exec(code.replace("http://127.0.0.1:8100", url), {})


def test_a_client_asks_the_student_and_reads_errors(generate: Generate, tmp_path: Path, redis_url: str) -> None:
    generate("student")
    models = part("student_client.models")
    chat, score = part("student_client.api.openai.chat"), part("student_client.api.probe.score")
    activate = part("student_client.api.checkpoints.activate_checkpoint")
    picture = f"data:image/png;base64,{base64.b64encode(png(200)).decode()}"
    image = models.ImagePart(type_="image_url", image_url=models.ImageURL(url=picture))
    message = models.ChatMessage(
        role=models.ChatMessageRole.USER, content=[image, models.TextPart(type_="text", text="What is red?")]
    )
    with served("student", tmp_path, redis_url) as url, part("student_client").AuthenticatedClient(url, KEY) as client:
        answer = chat.sync(client=client, body=models.ChatRequest(model="student", messages=[message], max_tokens=2))
        assert (answer.choices[0].message.role, answer.usage.completion_tokens) == ("assistant", 2)
        other = chat.sync(client=client, body=models.ChatRequest(model="gpt", messages=[message]))
        assert isinstance(other, models.OpenAIError) and "'gpt'" in other.error.message
        item = models.ScoreItem(image=picture, question="What is red?", answers=["a bar"])
        assert score.sync(client=client, body=models.ScoreRequest(items=[item])).scores[0][0].logprob < 0
        item.image = "data:image/png;base64,AAAA"
        wrong = score.sync(client=client, body=models.ScoreRequest(items=[item]))
        assert isinstance(wrong, models.Problem) and "items[0]" in wrong.detail
        absent = activate.sync(client=client, body=models.ActivateRequest(version="job-0"))
        assert (absent.status, "job-0" in absent.detail) == (404, True)


def part(name: str) -> Any:
    """A module that was not there when this test was written."""
    return importlib.import_module(name)


def png(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def zipped() -> bytes:
    """Three images and a file that is none."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png(number * 80))
        archive.writestr("list.csv", "0.png\n")
    return file.getvalue()
