"""From an image to its pairs: questions, answers, verdicts and discrepancies."""
