"""What the alignment loss's terms cost."""
