"""Takes a subject and the two sides of a behaviour.
Gives how strongly the behaviour is about to show in an answer, in nats and differentiable.
"""
