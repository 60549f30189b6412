"""What every HTTP service has: errors as problem+json, API keys, limits, health and metrics."""

from shared.http.app import Lifespan, create_app, serve
from shared.http.errors import invalid_fields

__all__ = ["Lifespan", "create_app", "invalid_fields", "serve"]
