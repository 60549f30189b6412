"""The worker process that collects shards."""
