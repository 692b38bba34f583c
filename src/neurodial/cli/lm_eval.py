"""`neurodial-lm-eval`: the command line of lm-evaluation-harness, which then knows the model `neurodial`."""

from __future__ import annotations

import importlib.util
import sys

from neurodial.errors import MissingPackageError, NeurodialError


def main() -> int:
    """Run the harness's command line; an error of ours is one line on stderr, as in the other commands."""
    try:
        if importlib.util.find_spec("lm_eval") is None:
            raise MissingPackageError("The harness's command needs lm-eval.", fix="pip install 'neurodial[eval]'")
        from lm_eval.__main__ import cli_evaluate

        import neurodial.evaluation.harness_model  # noqa: F401  # registers the model

        cli_evaluate()
    except NeurodialError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
