"""Takes the residual stream on both sides.
Gives vectors to add (arXiv 2312.06681) or to project out (arXiv 2406.11717).
"""
