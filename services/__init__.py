"""The services of MPA. Import path = folder path; no service imports another."""
