"""The `mpa` command line: a thin client of the services' HTTP APIs."""
