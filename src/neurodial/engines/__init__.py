"""Takes a model that another engine runs, with the engine's own options, and rendered prompts, circuits or exports.
Gives the activations of every neuron, checked to be there once each, as discovery reads them; answers and how likely
tokens are, as an evaluation asks for them; and in vLLM a dial for each request.
"""
