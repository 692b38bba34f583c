"""Takes a prediction: a prompt and the token that came.
Gives the neurons, tokens and edges that it came from.
"""
