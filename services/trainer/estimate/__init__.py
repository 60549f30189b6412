"""Whether a training fits a GPU."""
