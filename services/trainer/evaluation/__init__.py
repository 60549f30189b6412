"""What a checkpoint answers before and after."""
