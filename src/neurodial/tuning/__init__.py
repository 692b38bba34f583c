"""Takes a `Subject`, prompts in two splits, neutral prompts and attributions.
Gives neurons with doses found by measuring: how far a circuit goes for a budget of damage or a target.
"""
