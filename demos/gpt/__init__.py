"""A language model that learns to go on with a text, character by character."""
