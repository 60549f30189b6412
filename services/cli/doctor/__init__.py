"""`mpa doctor`: looks at a deployment from the outside, and says what to fix."""
