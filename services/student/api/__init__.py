"""The student's HTTP routes."""
