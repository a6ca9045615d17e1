"""The pronoun toy: learns what *it* stands for in "The animal didn't cross the street because it was tired"."""
