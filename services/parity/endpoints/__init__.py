"""The model servers that a worker calls: one caller for each, with its dialect and its limit of calls."""
