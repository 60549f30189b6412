"""From the disparity set to batches."""
