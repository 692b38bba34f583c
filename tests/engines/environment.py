"""The stand-in for vLLM's environment, as an interpreter that a command can be told to use."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def as_interpreter(path):
    """Write the stand-in as a program; gives its path."""
    path.write_text(
        f"#!{sys.executable}\nimport runpy, sys\nsys.path[:0] = {[str(ROOT / 'src'), str(ROOT)]!r}\n"
        "runpy.run_module('tests.engines.stand_in', run_name='__main__')\n"
    )
    path.chmod(0o700)
    return path
