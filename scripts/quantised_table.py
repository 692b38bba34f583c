"""Try every quantised format on a tiny model and write what works: `python -m scripts.quantised_table [FORMAT …]`.

The table stands in the package (`neurodial models`); the tests hold it against what they see where a format's library
is installed. With names, only those rows are made again. The libraries (see the table) go into an environment of
their own: some change transformers' own modules.
"""

import json
import sys

import torch
import transformers
from tests.quantised import FORMATS, quantised_row
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from neurodial.model.quantised_formats import TABLE

METHODS = {
    "awq", "bitsandbytes_4bit", "bitsandbytes_8bit", "compressed-tensors", "fp8", "gguf", "gptq", "hqq", "quanto",
    "torchao",
}  # fmt: skip
"""Those of transformers' names that the formats here stand for."""


def main(names: list[str]) -> int:
    """Make the rows and write the table after each, so that an interrupted run loses nothing."""
    torch.set_num_threads(1)
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    kept = table["formats"] if names else {}
    table["transformers"] = transformers.__version__
    table["untried"] = sorted(set(AUTO_QUANTIZER_MAPPING) - METHODS)
    for name in names or FORMATS:
        if not FORMATS[name].is_here:
            print(f"{name}: {FORMATS[name].package} is not installed; its row stays as it is", file=sys.stderr)
            continue
        kept[name] = quantised_row(name)
        table["formats"] = {each: kept[each] for each in FORMATS if each in kept}
        TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        print(name, kept[name], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
