"""One settings class per service, read from the environment (prefix ``MPA_``). Durations are timedeltas, sizes
ByteSize.
"""

from shared.settings.common import (
    SECRETS_DIR_VARIABLE,
    ChatImageSettings,
    CommonSettings,
    HttpSettings,
    ImageSettings,
    WorkerSettings,
)
from shared.settings.reading import read_settings, refuse_bad_settings
from shared.settings.services import ClientSettings, ParitySettings, StudentSettings, TeacherSettings, TrainerSettings

__all__ = [
    "SECRETS_DIR_VARIABLE",
    "ChatImageSettings",
    "ClientSettings",
    "CommonSettings",
    "HttpSettings",
    "ImageSettings",
    "ParitySettings",
    "StudentSettings",
    "TeacherSettings",
    "TrainerSettings",
    "WorkerSettings",
    "read_settings",
    "refuse_bad_settings",
]
