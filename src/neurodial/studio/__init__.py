"""Takes a subject, circuits and a folder.
Gives a local page to look at circuits, turn their dials, discover, measure and export.
"""
