"""Steps of gradient descent whose state is kept on disk: a run that was stopped ends as one that was not, bit by bit.

The rows of a step follow from the seed and the step's number alone; parameters, the optimiser's moments and the losses
stand in one file, written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from neurodial.errors import FileError
from neurodial.files import write_atomic
from neurodial.nla.train_options import Training
from neurodial.progress import Progress, silent

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def rows_of_step(step: int, count: int, options: Training) -> list[int]:
    """Which of `count` examples a step learns from: every one once before any comes again.

    Example:
        >>> sorted(rows_of_step(0, 4, Training(batch_size=2)) + rows_of_step(1, 4, Training(batch_size=2)))
        [0, 1, 2, 3]
    """
    chosen = []
    for place in range(step * options.batch_size, (step + 1) * options.batch_size):
        epoch, number = divmod(place, count)
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
        chosen.append(int(torch.randperm(count, generator=generator)[number]))
    return chosen


def fit(
    parameters: Mapping[str, nn.Parameter],
    loss_of: Callable[[list[int]], Tensor],
    count: int,
    options: Training,
    kept: tuple[Path, str],
    *,
    progress: Progress = silent,
    name: str = "training",
) -> list[float]:
    """Lower a loss, from where the kept state left off.

    Args:
        parameters: what is learned, by name; they hold the result.
        loss_of: the loss of some examples.
        count: how many examples there are.
        options: steps, rate, batch size.
        kept: the file of the state, and the digest of everything that the result depends on.
        progress: shown while it runs.
        name: of the work.

    Returns:
        The loss of every step.

    Raises:
        FileError: the file holds the state of another run, or is damaged.
    """
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=options.rate, weight_decay=0.0)
    losses = _restore(parameters, optimizer, kept)
    with progress(name, options.steps) as advance:
        advance(len(losses))
        for step in range(len(losses), options.steps):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(rows_of_step(step, count, options))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            if len(losses) % options.save_every == 0 or len(losses) == options.steps:
                _keep(parameters, optimizer, losses, kept)
            advance(1)
    return losses


def _keep(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    losses: list[float],
    kept: tuple[Path, str],
) -> None:
    from safetensors.torch import save

    path, digest = kept
    tensors = {f"value {name}": value.detach() for name, value in parameters.items()}
    for name, value in parameters.items():
        tensors |= {f"{moment} {name}": optimizer.state[value][moment] for moment in _MOMENTS}
    plain = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, {"digest": digest, "losses": json.dumps(losses)}), overwrite=True)


def _restore(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, kept: tuple[Path, str]
) -> list[float]:
    """Take over a kept state; gives the losses so far, none where there is no state."""
    from safetensors import SafetensorError, safe_open

    path, digest = kept
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path} is damaged: {error}.", fix="Remove it: the run begins anew.") from error
    if about.get("digest") != digest:
        raise FileError(
            f"{path} is of a run with another model, other texts or other options.",
            wanted="the same command as before",
            fix="Choose another output folder, or remove the one that ends in .partial.",
        )
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(tensors[f"value {name}"])
            optimizer.state[value] = {
                moment: tensors[f"{moment} {name}"].to("cpu" if moment == "step" else value.device)
                for moment in _MOMENTS
            }
    losses: list[float] = json.loads(about["losses"])
    return losses
