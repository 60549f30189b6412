"""Teacher service: a big vision-language model behind OpenAI chat completions: vLLM, or transformers as a fallback."""
