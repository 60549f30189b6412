"""``python -m services.trainer``: the trainer's HTTP app; ``python -m services.trainer.worker`` does the work."""

from __future__ import annotations

from services.trainer.app import make_app
from shared.http import serve
from shared.settings import TrainerSettings, read_settings
from shared.telemetry import setup_logging


def main() -> None:
    settings = read_settings(TrainerSettings)
    setup_logging("trainer", settings)
    serve(make_app(settings), settings, settings.trainer_port)


if __name__ == "__main__":
    main()
