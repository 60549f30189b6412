"""What `make demo` runs: the real system, one job, a client that keeps asking during the swap, and the result."""
