"""What the services that run a model have in common: OpenAI's answers, prepared prompts, and the batcher."""
