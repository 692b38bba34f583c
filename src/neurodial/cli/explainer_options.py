"""Who puts neurons into words. Torch-free, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from neurodial.cli.model_options import ModelOptions
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.explain.explainer import Explainer
    from neurodial.model.subject import Subject


@Parameter(name="*", group=Group("In words", sort_key=41))
@dataclass(frozen=True)
class ExplainerOptions:
    """The model that puts neurons into words; the words are scored whoever says them.

    Attributes:
        explainer: a model on this machine: a folder, a Hub id, or MODEL again, which is then loaded once.
        endpoint: address of an OpenAI-compatible server, up to and including /v1; the texts are sent to it.
        endpoint_model: the model's name there.
    """

    explainer: str | None = None
    endpoint: str | None = None
    endpoint_model: str | None = None

    def check(self) -> None:
        """Refuse what can't be, before a model is loaded.

        Raises:
            OptionError: an option came without the one that it belongs to, or two models were named.
            ModelError: there is no such model.
        """
        if (self.endpoint is None) != (self.endpoint_model is None):
            raise OptionError("Only one of --endpoint and --endpoint-model was given.", wanted="both, or neither")
        if self.explainer is None:
            return
        if self.endpoint is not None:
            raise OptionError("Both --endpoint and --explainer were given.", wanted="one model that explains")
        from neurodial.model.which_model import refuse_no_model

        refuse_no_model(self.explainer)

    def made(self, model: str, subject: Subject, loading: ModelOptions) -> Explainer | None:
        """Who explains; None where nobody was named.

        Args:
            model: what is explained, as the user named it.
            subject: the same, loaded.
            loading: how that was loaded.
        """
        self.check()
        from neurodial.evaluation.detectors.endpoint import Endpoint
        from neurodial.explain.explainer import LocalExplainer, ServedExplainer

        if self.endpoint is not None and self.endpoint_model is not None:
            return ServedExplainer(Endpoint(self.endpoint, self.endpoint_model))
        if self.explainer is None:
            return None
        if self.explainer == model:
            return LocalExplainer(subject)
        how = ModelOptions(
            dtype=loading.dtype, device=loading.device, device_map=loading.device_map, load_in=loading.load_in
        )
        return LocalExplainer(how.load(self.explainer))
