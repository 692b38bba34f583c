"""Takes a text.
Gives what can be computed without a model: its words, its language, whether it has degenerated.
"""
