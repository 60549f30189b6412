"""The artifact store: files by key, in a folder or a bucket, published atomically."""

from shared.store.store import Entry, Store

__all__ = ["Entry", "Store"]
