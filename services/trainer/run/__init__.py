"""One step of one training, in a process of its own."""
