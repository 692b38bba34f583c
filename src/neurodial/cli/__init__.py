"""Takes what a user types.
Gives tables, text or JSON; holds no mathematics.
"""
