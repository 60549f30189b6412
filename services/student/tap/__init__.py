"""The traffic tap: samples what users ask into an image pile in the store."""

from services.student.tap.tap import TrafficTap, load_filter, without_metadata

__all__ = ["TrafficTap", "load_filter", "without_metadata"]
