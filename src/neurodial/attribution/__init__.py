"""Takes statistics of activations, or a `Subject` and prompts.
Gives `Scores`: one signed number per neuron, and the circuit that a selection rule takes from them.
"""
