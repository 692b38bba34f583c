"""Takes a `Subject`, rendered prompts and the position to read.
Gives streamed statistics of every neuron (count, mean, squared deviations), or the activations themselves.
"""
