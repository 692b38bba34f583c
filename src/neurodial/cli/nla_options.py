"""Options for a verbaliser and its reconstructor. Torch-free, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from neurodial.cli.model_options import ModelOptions
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.explain.vector_section import VectorWording
    from neurodial.nla.pair import NlaPair


@Parameter(name="*", group=Group("Autoencoder", sort_key=40))
@dataclass(frozen=True)
class PairOptions:
    """A natural-language autoencoder: a pair of models.

    Attributes:
        verbaliser: Hub id or folder of the model that puts vectors into words, with nla_meta.yaml.
        reconstructor: Hub id or folder of the model that makes vectors of the words again.
        verbaliser_endpoint: address of an OpenAI-compatible server, up to and including /v1, that runs the verbaliser
            and takes prompt_embeds; by default it is loaded here.
        verbaliser_name: the verbaliser's name there.
        pair_dtype: of both models: auto, float32, bfloat16 or float16.
    """

    verbaliser: str | None = None
    reconstructor: str | None = None
    verbaliser_endpoint: str | None = None
    verbaliser_name: str | None = None
    pair_dtype: str = "auto"

    def pair(self, model: str, loading: ModelOptions, *, force: bool = False) -> NlaPair | None:
        """The pair that was named, checked against the model as far as both sides' small files say; None for none.

        Raises:
            OptionError: an option came without the one that it belongs to.
            VerbaliserError: the pair is damaged, or for another model.
        """
        together = {"--verbaliser": self.verbaliser, "--reconstructor": self.reconstructor}
        served = {"--verbaliser-endpoint": self.verbaliser_endpoint, "--verbaliser-name": self.verbaliser_name}
        for options in (together, served):
            given = [name for name, value in options.items() if value is not None]
            if len(given) == 1:
                raise OptionError(
                    f"{given[0]} came without {next(n for n in options if n not in given)}.", wanted="both"
                )
        if self.verbaliser is None or self.reconstructor is None:
            if self.verbaliser_endpoint is not None:
                raise OptionError(
                    "--verbaliser-endpoint came without --verbaliser.",
                    wanted="both: tokenizer, nla_meta.yaml and first block are read here",
                )
            return None
        from neurodial.evaluation.detectors.endpoint import Endpoint
        from neurodial.model.stored_shape import stored_shape
        from neurodial.nla.pair import read_pair

        endpoint = None
        if self.verbaliser_endpoint is not None and self.verbaliser_name is not None:
            endpoint = Endpoint(self.verbaliser_endpoint, self.verbaliser_name)
        pair = read_pair(
            self.verbaliser, self.reconstructor,
            endpoint=endpoint, dtype=self.pair_dtype, device=loading.device, device_map=loading.device_map,
        )  # fmt: skip
        shape = stored_shape(model)
        if shape is not None:
            pair.check_base(shape, model, force=force)
        return pair


def vector_wording(pair: NlaPair | None, neutral: str) -> VectorWording | None:
    """With what an explanation puts vectors into words: a pair, and ordinary prompts; None without a pair."""
    if pair is None:
        return None
    from neurodial.explain.vector_section import VectorWording
    from neurodial.prompts.behaviours import read_prompt_list

    return VectorWording(pair, read_prompt_list(neutral).prompts, neutral)
