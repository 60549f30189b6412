"""A candidate that answers a share of the requests beside the active checkpoint."""
