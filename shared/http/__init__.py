"""What every HTTP service has: errors as problem+json, API keys, limits, health and metrics."""

from shared.http.app import Lifespan, create_app, serve
from shared.http.errors import invalid_fields
from shared.http.openapi import OPENAI_TAG, errors, named, sse

__all__ = ["OPENAI_TAG", "Lifespan", "create_app", "errors", "invalid_fields", "named", "serve", "sse"]
