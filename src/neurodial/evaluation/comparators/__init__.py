"""Takes a `Subject` and a `PairSet`.
Gives the other ways to steer, each at its best on the development split, and each as it was published.
"""
