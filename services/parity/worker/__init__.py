"""The Celery worker that collects shards."""
