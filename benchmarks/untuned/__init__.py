"""What chat models that nobody here tuned can do step by step: candidates, a search, and moving what was found."""
