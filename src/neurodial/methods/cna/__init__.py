"""Takes activations of every neuron on both sides.
Gives the neurons whose activations differ most (arXiv 2605.12290).
"""
