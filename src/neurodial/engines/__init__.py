"""Takes a model that another engine runs, with the engine's own options, and rendered prompts.
Gives the activations of every neuron, checked to be there once each, as discovery reads them.
"""
