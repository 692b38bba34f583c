"""Which parts of a model are linearised, and how. Torch-free: the command line reads these too.

| part | rule, when on | with it off |
|---|---|---|
| RMSNorm, (1 + weight) RMSNorm, before or after a sublayer, final | `norm`: the coefficient is a constant | gradient |
| LayerNorm | `norm`: the same; its subtraction of the mean is linear and stays | gradient |
| activation (SiLU, GELU and variants, ReLU, …) | `activation`: output / input a constant, act'(0) at 0 | gradient |
| gate x up, also from one fused map | `product`: half the gradient to each factor | gradient |
| attention pattern, its soft-cap, rotary positions | `attention`: constants; only values pass relevance | gradient |
| norms of queries and keys | under constant patterns nothing reaches them; else as `norm` | gradient |
| soft-cap of the final logits | `soft_cap`: output / input is a constant | gradient |
| biases, also those of norms | constants in any case: they take their share and pass nothing on | the same |
| embedding, position embedding, its scaling | one node for each token, before the first block | the same |

With every rule on, relevance is conserved up to the biases: at each depth it sums to the target.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """The linearisation rules of RelP and LRP (arXiv 2508.21258, 2601.22594), each of which can be turned off.

    Attributes:
        norm: the coefficient of every norm is a constant (LN rule).
        activation: an activation's ratio of output to input is a constant (identity rule).
        product: gate and up get half the gradient each (half rule).
        attention: attention patterns are constants (AH rule); off means full gradients through them.
        soft_cap: the soft-cap of the final logits has a constant ratio of output to input.

    Example:
        >>> Rules(attention=False).norm
        True
    """

    norm: bool = True
    activation: bool = True
    product: bool = True
    attention: bool = True
    soft_cap: bool = True

    @classmethod
    def none(cls) -> Rules:
        """Plain gradients."""
        return cls(norm=False, activation=False, product=False, attention=False, soft_cap=False)
