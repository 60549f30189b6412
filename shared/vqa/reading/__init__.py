"""What a model's text is before it counts as an answer: reasoning, decoration, a refusal or half a sentence."""
