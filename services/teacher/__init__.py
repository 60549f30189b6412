"""Teacher service: a big vision-language model behind OpenAI's chat API, run by vLLM (or, as a fall-back, transformers)."""
