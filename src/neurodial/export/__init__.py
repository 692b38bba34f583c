"""Takes a `Subject` and circuits at a dial.
Gives a folder that other engines load, checked: it does what the hook does.
"""
