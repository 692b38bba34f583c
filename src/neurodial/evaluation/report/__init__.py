"""Takes tables, figures and answers as plain values.
Gives one self-contained HTML file, and SVG plots.
"""
