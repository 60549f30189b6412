"""Load, prompt, generate and score with Hugging Face vision-language models: one path for student, trainer and
fallback teacher.
"""
