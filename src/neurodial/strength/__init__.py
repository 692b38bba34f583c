"""Takes a path of strengths, a margin, and the limits to keep.
Gives the strength that goes furthest within the limits, by measuring on the development split.
"""
