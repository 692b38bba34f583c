"""Takes a subject and the two sides of a behaviour.
Gives how strongly an answer will show the behaviour: in nats, and differentiable.
"""
