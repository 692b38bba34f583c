"""Takes a subject, prompts, and for each row of a batch an intervention or none.
Gives answers, final hidden states, divergences of next-token distributions, and answers decoded side by side.
"""
