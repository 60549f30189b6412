"""The models that a worker asks: one caller for each endpoint, its dialect and its limit of calls."""
