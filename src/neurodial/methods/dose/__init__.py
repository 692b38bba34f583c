"""Takes a margin's effects and the cost of touching each neuron.
Gives neurons with doses, along a path of strengths.
"""
