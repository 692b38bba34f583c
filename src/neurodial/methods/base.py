"""What the methods have in common. Torch-free."""

from __future__ import annotations

from typing import Literal

Sign = Literal["both", "positive", "negative"]
"""Which neurons may be chosen, by the sign of their score: of either sign, or only those of one."""
