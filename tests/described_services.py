"""The four services with an API key, on real parts, as their OpenAPI documents describe them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import SecretStr

from services.parity.app import make_app as parity_app
from services.student.app import build_app as student_app
from services.teacher.app import make_app as teacher_app
from services.trainer.app import make_app as trainer_app
from shared.settings import ParitySettings, StudentSettings, TeacherSettings, TrainerSettings
from tests.quick_server import ServerThread
from tests.tiny_models import build_tiny_idefics3

KEY = "open sesame"
NAMES = ("parity", "trainer", "student", "teacher")
_SECRET = SecretStr(KEY)


def app_of(name: str, folder: Path, redis_url: str = "redis://127.0.0.1:6379/0") -> FastAPI:
    """The app of a service with its data in ``folder``; the models are tiny."""
    if name == "parity":
        pictures = folder / "pictures"
        return parity_app(ParitySettings(data_dir=folder, redis_url=redis_url, api_key=_SECRET, image_roots=[pictures]))
    if name == "trainer":
        return trainer_app(TrainerSettings(data_dir=folder, redis_url=redis_url, api_key=_SECRET))
    model = str(folder / "model")
    if name == "student":
        return student_app(StudentSettings(data_dir=folder, student_model=model, redis_url="", api_key=_SECRET))
    return teacher_app(
        TeacherSettings(
            data_dir=folder, teacher_model=model, teacher_engine="transformers", teacher_name="student", api_key=_SECRET
        )
    )


@cache
def document(name: str) -> dict[str, Any]:
    """What the service says about itself."""
    found: dict[str, Any] = app_of(name, Path("unused")).openapi()
    return found


def operations(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation of a service, by method and path."""
    for path, item in document(name)["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def fields(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of every model, and every parameter, with what is said about it."""
    for schema, content in document(name)["components"]["schemas"].items():
        for field, form in content.get("properties", {}).items():
            yield f"{schema}.{field}", form
    for place, operation in operations(name):
        for parameter in operation.get("parameters", ()):
            examples = {"examples": [parameter["example"]]} if "example" in parameter else {}
            yield f"{place}: {parameter['name']}", {**parameter["schema"], **examples}


@contextmanager
def served(name: str, folder: Path, redis_url: str) -> Iterator[str]:
    """The address of a service until the block ends."""
    if name in ("student", "teacher"):
        build_tiny_idefics3(folder / "model", seed=0)
    server = ServerThread(app_of(name, folder, redis_url))
    yield server.url
    server.stop()
