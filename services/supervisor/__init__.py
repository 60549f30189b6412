"""Runs all services of one machine as child processes: starts, watches, restarts and stops them."""
