"""`mpa gc`."""
