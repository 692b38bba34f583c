"""Takes a margin and both sides of a contrast.
Gives the one neuron that holds a behaviour up (arXiv 2605.08513).
"""
