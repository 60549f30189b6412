"""The Celery worker that trains: a job from its finished set to the gate and the promotion."""
