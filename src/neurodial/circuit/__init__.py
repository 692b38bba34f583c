"""Takes columns of neurons with their scores and doses.
Gives a `Circuit`: a frozen value, readable without torch, and its file.
"""
