"""Where a job's images come from, and each image as the models get it."""
