"""Takes JSONL, TOML, CSV or lists of prompts.
Gives a `PairSet`: positive and negative prompts in three splits that never overlap, and their tokens.
"""
