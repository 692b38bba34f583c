"""Takes the files of a model, and of a copy that somebody edited.
Gives what the edit was: neurons scaled and by how much, a direction removed, something else, or nothing.
"""
