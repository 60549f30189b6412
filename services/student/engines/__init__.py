"""The engines that run the student's model, and what they have in common."""
