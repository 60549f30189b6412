"""A vLLM server as a supervised child process: its command line, its life, and talking to it."""
