"""Takes a `Subject`, interventions and prompts.
Gives answers: generated text, steered and not, in batches of mixed dials.
"""
