"""Takes a `Subject` and interventions: circuits at a dial, vectors, pins.
Gives a `with` block in which the model is steered; after it the model is unchanged.
"""
