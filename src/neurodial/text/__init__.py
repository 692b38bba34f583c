"""Takes a text.
Gives what can be told of it without a model: its words, its language, whether it has broken down.
"""
