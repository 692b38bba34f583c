"""Takes a `Subject`, vectors of its residual stream, and a verbaliser with its reconstructor (or texts, to train both).
Gives words for each vector, each with how well the vector can be rebuilt from them, beside controls.
"""
