"""`mpa promote`, `mpa rollout`, `mpa canary` and the other commands about what the student serves."""
