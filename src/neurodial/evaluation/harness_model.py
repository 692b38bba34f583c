"""lm-evaluation-harness's model `neurodial`: a model under circuits at their dials, by its own model arguments.

Importing this module registers it. `neurodial-lm-eval` is the harness's own command line after that import.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from neurodial.evaluation.model_arguments import described, refuse_unknown, scales_of
from neurodial.intervention.steer import steer
from neurodial.model.generation_settings import plain_generation
from neurodial.model.load import load

_PASSED = (
    "batch_size", "max_batch_size", "max_length", "add_bos_token", "prefix_token_id", "softmax_dtype",
    "think_end_token", "enable_thinking", "chat_template_args",
)  # fmt: skip
"""What the harness's own model takes that makes sense for a model in memory."""


@register_model("neurodial")
class SteeredLM(HFLM):  # type: ignore[misc]  # the harness has no stubs
    """The harness's model of transformers, under circuits for as long as it lives.

    Args:
        pretrained: Hub id, folder, GGUF file, `demo` or `demo-base`.
        circuit: files of circuits, a plus sign between them; none: the model as it is.
        dial: one for all circuits, or one for each, a plus sign between them.
        dtype: by default the checkpoint's own.
        device: where to put the model.
        adapter: folder of a PEFT adapter, applied first.
        revision: the Hub revision.
        trust_remote_code: run code from the repository.
        options: of the harness's own model, such as `batch_size`, `max_length` or `enable_thinking`.

    Raises:
        ModelMismatchError: a circuit was made on another model.
        OptionError: as many dials as circuits, or one, were wanted.
        UnknownNameError: no such model argument.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> folder = getfixture("tmp_path")
        >>> _ = [part.save_pretrained(folder) for part in (tiny_subject().model, tiny_subject().tokenizer)]
        >>> SteeredLM(str(folder), batch_size=2).batch_size
        2
    """

    def __init__(
        self,
        pretrained: str,
        circuit: str | Sequence[str] = (),
        dial: float | str | Sequence[float] = 1.0,
        dtype: str | None = None,
        device: str | None = None,
        adapter: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,  # noqa: FBT001, FBT002  # the harness's name and way
        **options: Any,
    ) -> None:
        refuse_unknown(options, _PASSED)
        if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
            device = None  # the harness says cuda:0 where nobody named a device, and means: if there is one
        subject = load(
            pretrained,
            dtype=None if dtype == "auto" else dtype,
            device=device,
            adapter=adapter,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        self.scales = scales_of(circuit, dial)
        self._steering = ExitStack()  # the model is this object's own, and is steered until it is gone
        self._steering.enter_context(steer(subject, *self.scales))
        self._steering.enter_context(plain_generation(subject.model))
        length = options.pop("max_length", None) or subject.context_length
        template = {**dict(subject.template.options), **(options.pop("chat_template_args", None) or {})}
        super().__init__(
            pretrained=subject.model,
            tokenizer=subject.tokenizer,
            device=str(subject.device),
            max_length=length,
            chat_template_args=template,
            **options,
        )
        self._digest = subject.identity.digest

    def get_model_info(self) -> dict[str, Any]:
        """What the harness keeps of a model, with the circuits and their dials."""
        return {**super().get_model_info(), "model_digest": self._digest, "circuits": described(self.scales)}
