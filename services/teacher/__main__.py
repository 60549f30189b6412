"""``python -m services.teacher``: the teacher and its model server."""

from __future__ import annotations

from services.teacher.app import make_app
from shared.http import serve
from shared.settings import TeacherSettings, read_settings
from shared.telemetry import setup_logging


def main() -> None:
    settings = read_settings(TeacherSettings)
    setup_logging("teacher", settings)
    serve(make_app(settings), settings, settings.teacher_port)


if __name__ == "__main__":
    main()
