"""What a paper's methods section has to say of a run, in one paragraph, from the report alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neurodial.evaluation.metrics import metric
from neurodial.evaluation.results import Report

_SETS = {
    "behaviour": "prompts whose answers show it",
    "opposite": "prompts of the other side",
    "over_refusal": "safe prompts that sound unsafe",
    "neutral": "neutral prompts",
}


_STATISTICS = (
    "Shares have Wilson intervals, means percentile bootstrap intervals (2,000 resamples), all at 95 %. Differences "
    "are paired on the same prompts: McNemar's exact test with Newcombe's interval for shares, a bootstrap over the "
    "pairs for means."
)


def methods_text(report: Report) -> str:
    """Model, prompts, methods, detector, decoding, seeds, limits and statistics, as sentences.

    Example:
        >>> from neurodial.evaluation.results import ConditionResult
        >>> unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, {}, {})
        >>> methods_text(Report("refusal", {"refusal": "Our rule."}, (unsteered,))).split(". ")[0]
        'We measured refusal in an unnamed model'
    """
    parts = [
        _model(report),
        *_prompts(report),
        *_methods(report),
        *_detectors(report),
        *_decoding(report),
        *_limits(report),
    ]
    return " ".join([*parts, _STATISTICS, *_software(report)])


def _model(report: Report) -> str:
    model: Mapping[str, Any] = report.provenance.get("model", {})
    if not model:
        return f"We measured {report.behaviour} in an unnamed model."
    widths = model.get("widths", [])
    routed = [number * width for number, width in filter(None, model.get("experts", ()))]
    shape = f", {len(widths)} layers of {widths[0]:,} MLP neurons" if widths else ""
    if routed:
        shape = (
            f", {sum(widths) + sum(routed):,} MLP neurons in {len(widths)} layers, those of routed experts among them"
        )
    adapter = ", with an adapter" if model.get("adapter_digest") else ""
    digest = f", weights {str(model.get('digest', ''))[:12]}"
    return (
        f"We measured {report.behaviour} in {model.get('label')} (family {model.get('family')}{shape}; run in "
        f"{model.get('dtype')}{digest}{adapter})."
    )


def _prompts(report: Report) -> Iterator[str]:
    splits, counts = report.provenance.get("splits", {}), report.provenance.get("counts", {})
    if splits:
        sizes = ", ".join(f"{name} {count}" for name, count in splits.items())
        yield f"Contrastive prompts come in splits that share none (pairs of prompts: {sizes})."
    if counts:
        asked = ", ".join(f"{count} {_SETS.get(name, name)}" for name, count in counts.items())
        digest = str(report.provenance.get("test_prompts", ""))[:12]
        yield f"Every condition answered the same prompts of the test split ({asked}; hash {digest})."


def _methods(report: Report) -> Iterator[str]:
    told = []
    for label, conditions in report.methods().items():
        dials = ", ".join(f"{condition.dial:g}" for condition in conditions)
        details = {k: v for k, v in conditions[0].details.items() if not k.startswith("development_") and k != "trials"}
        options = "".join(f"; {key.replace('_', ' ')} {_plain(value)}" for key, value in details.items())
        told.append(f"{label} (dial{'s' if len(conditions) > 1 else ''} {dials}{options})")
    if told:
        yield f"Beside the unsteered model stand {', '.join(told)}."


def _detectors(report: Report) -> Iterator[str]:
    first, *others = report.detectors.items()
    yield f"Whether an answer shows {report.behaviour} was decided by the detector {first[0]}: {first[1].rstrip('.')}."
    errors: Mapping[str, str] = report.provenance.get("detector_errors", {})
    if others:
        unknown = " (error not known)" if errors else ""  # reports of earlier versions say nothing of any
        named = (f"{name} ({errors[name]})" if name in errors else f"{name}{unknown}" for name, _ in others)
        yield f"Beside it stand {', '.join(named)}."


def _decoding(report: Report) -> Iterator[str]:
    decoding: Mapping[str, Any] = report.settings.get("decoding", {})
    if decoding:
        heat = decoding.get("temperature", 0)
        how = "greedily" if not heat else f"at temperature {heat:g} (top-p {decoding.get('top_p', 1):g})"
        system = f", with the system message {decoding['system']!r}" if decoding.get("system") else ""
        yield (
            f"Answers were decoded {how}, at most {decoding.get('max_new_tokens')} new tokens, seed "
            f"{decoding.get('seed')}{system}."
        )
    if "seeds" in report.settings and any(c.method.startswith("random") for c in report.conditions):
        yield f"Random controls have the seeds {', '.join(map(str, report.settings['seeds']))}."


def _limits(report: Report) -> Iterator[str]:
    if any("kl" in condition.metrics for condition in report.conditions):
        tokens = report.settings.get("divergence_tokens")
        yield (
            "Cost is KL(unsteered || steered) over the unsteered model's own answers to neutral prompts, of at most "
            f"{tokens} tokens."
        )
    if any("development_kl" in condition.details for condition in report.conditions):
        broken = report.settings.get("max_degenerate")
        also = "" if broken is None else f", at most {broken:.0%} more broken answers"
        mean = report.settings.get("max_broken")
        also += "" if mean is None else f", a mean brokenness of those answers at most {mean:g} higher"
        yield (
            "Strengths of other methods were searched on the development split alone, within "
            f"{report.settings.get('kl_limit', 0.1):g} nats per token{also}."
        )
    tasks = sorted({name for c in report.conditions for name in c.metrics if name.startswith("task:")})
    if tasks:
        yield f"Benchmarks: {', '.join(metric(name).title for name in tasks)} on the live steered model."


def _software(report: Report) -> Iterator[str]:
    versions = report.provenance.get("versions", {})
    if versions:
        yield f"Software: {', '.join(f'{name} {number}' for name, number in versions.items())}."


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        options = [f"{key} {_plain(item)}" for key, item in value.items() if key != "kind" and item is not None]
        kind = str(value.get("kind", ""))
        return f"{kind} ({', '.join(options)})".strip() if options else kind
    if isinstance(value, list | tuple):
        return "+".join(map(_plain, value)) or "none"
    return repr(value) if isinstance(value, str) and " " in value else str(value)
