"""What tinyattn is used for; each demo imports the public face only."""
