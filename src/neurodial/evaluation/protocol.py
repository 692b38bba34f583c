"""The protocol of arXiv 2605.12290, so that its tables can be made again with one command for each model.

1. Test prompts: the 100 harmful goals of JBB-Behaviors; safe ones: its benign goals.
2. Greedy answers of 150 new tokens; refusals by the public code's patterns in the first 500 characters, any text
   counted as it is (no class for degenerate text), beside our own detectors.
3. Strength alpha from 0 to 1 in quarters, which is our dial; CAA as the public code does it.
4. MMLU, 1,000 questions, at every strength.
"""

from __future__ import annotations

from dataclasses import replace

from neurodial.evaluation.options import Evaluation
from neurodial.generation.decoding import Decoding

ALPHAS = (0.25, 0.5, 0.75, 1.0)
"""Strengths of the paper; 0 is the unsteered model, which is always measured."""
TEST_SET = "jbb"
AGAINST = ("caa-published",)
DETECTORS = ("bare:refusal:cna", "refusal:cna", "refusal:jailbreakbench", "refusal")
NEW_TOKENS = 150
MMLU_QUESTIONS = 1000


def paper(options: Evaluation, *, with_mmlu: bool = True) -> Evaluation:
    """The options of the paper's protocol; what the paper leaves open stays as given.

    Example:
        >>> paper(Evaluation()).decoding.max_new_tokens
        150
    """
    decoding = Decoding(NEW_TOKENS, 0.0, batch_size=options.decoding.batch_size, system=options.decoding.system)
    given = options.harness
    harness = replace(given, tasks=given.tasks or ("mmlu",), limit=given.limit or MMLU_QUESTIONS)
    return replace(
        options,
        detectors=DETECTORS,
        decoding=decoding,
        harness=harness if with_mmlu else given,
        prompts=100,
    )
