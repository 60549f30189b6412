"""`python -m services.student`."""

from __future__ import annotations

from services.student.app import build_app
from shared.http import serve
from shared.settings import StudentSettings, read_settings
from shared.telemetry import setup_logging


def main() -> None:
    settings = read_settings(StudentSettings)
    setup_logging("student", settings)
    serve(build_app(settings), settings, settings.student_port)


if __name__ == "__main__":
    main()
