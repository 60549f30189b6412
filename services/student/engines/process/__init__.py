"""The student on Hugging Face transformers, with the model in a separate process."""
