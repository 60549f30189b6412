"""Logs, traces and metrics."""

from shared.telemetry.logs import JsonFormatter, TextFormatter, log_fields, setup_logging

__all__ = ["JsonFormatter", "TextFormatter", "log_fields", "setup_logging"]
