"""`mpa doctor`: checks a deployment from the outside and says what to fix."""
