"""The image sources of a job, and each image as it is sent to the models."""
