"""Takes a path of strengths, a margin, and the limits to keep.
Gives the best strength within the limits, measured on the development split.
"""
