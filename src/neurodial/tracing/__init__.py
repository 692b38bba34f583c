"""Takes a prediction: a prompt and the token that the model gave.
Gives the neurons, tokens and edges behind it.
"""
