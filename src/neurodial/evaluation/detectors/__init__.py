"""Takes prompts and their answers.
Gives a verdict on each: the behaviour is shown, absent, the text is degenerate, or the judge failed.
"""
