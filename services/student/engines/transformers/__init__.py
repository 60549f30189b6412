"""The student on Hugging Face transformers, on a thread of this process."""
