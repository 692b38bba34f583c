"""Takes a Hub id, a folder, a GGUF file or a live model.
Gives a `Subject`: model, tokenizer, layout and identity. The only place that knows architectures.
"""
