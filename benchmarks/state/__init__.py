"""What the records of a large job cost."""
