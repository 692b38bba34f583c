"""Takes a subject and contrastive prompts.
Gives a path: a range of strength, and the intervention at each strength.
"""
