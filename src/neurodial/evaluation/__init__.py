"""Takes a `Subject`, interventions, held-out prompts and measures.
Gives a `Report`: rows with intervals, controls and provenance, as JSON, HTML and plots.
"""
