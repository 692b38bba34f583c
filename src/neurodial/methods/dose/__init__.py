"""Takes a margin's effects and the cost of changing each neuron.
Gives neurons with doses, along a path of strengths.
"""
