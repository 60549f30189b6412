"""`mpa submit`, `mpa status` and the other commands about jobs."""
