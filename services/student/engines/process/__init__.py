"""The student on Hugging Face transformers, in a process of its own."""
