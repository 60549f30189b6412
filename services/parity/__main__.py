"""``python -m services.parity``: the job API and its reconciler."""

from __future__ import annotations

from services.parity.app import make_app
from shared.http import serve
from shared.settings import ParitySettings, read_settings
from shared.telemetry import setup_logging
from shared.vqa.tasks import load_profiles


def main() -> None:
    settings = read_settings(ParitySettings, lambda found: load_profiles(found.tasks_file))
    setup_logging("parity", settings)
    serve(make_app(settings), settings, settings.parity_port)


if __name__ == "__main__":
    main()
