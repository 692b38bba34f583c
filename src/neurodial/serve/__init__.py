"""Takes a `Subject` and named circuits.
Gives answers over HTTP as OpenAI's API has them, with a dial for each request.
"""
