"""`mpa evaluate` and `mpa compare`."""
