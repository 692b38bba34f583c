"""Try every causal model type on a tiny model and write what works: `python -m scripts.model_table [TYPE …]`.

The table stands in the package (`neurodial models`); the tests hold it against what they see. With names, only those
rows are made again.
"""

import json
import sys

import torch
import transformers
from tests.zoo import IMAGE_TYPES, causal_types
from tests.zoo_checks import row_of

from neurodial.model.known_models import TABLE


def main(names: list[str]) -> int:
    """Make the rows and write the table after each, so that an interrupted run loses nothing."""
    torch.set_num_threads(1)
    before = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    table = {"transformers": transformers.__version__, "text": {}, "image and text": {}}
    for kind, types in (("text", causal_types()), ("image and text", IMAGE_TYPES)):
        kept = before.get(kind, {})
        for name in types:
            if names and name not in names:
                if name in kept:
                    table[kind][name] = kept[name]
                continue
            table[kind][name] = row_of(name, images=kind == "image and text")
            print(kind, name, table[kind][name], flush=True)
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
