"""Takes a `Subject`, a circuit and texts.
Gives what its neurons read, write, fire on and do, alone and together, as a value, JSON and a page.
"""
