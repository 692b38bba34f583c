"""Takes a `Subject` and circuits at a dial.
Gives a folder that other engines load, with the proof that it does what the hook does.
"""
