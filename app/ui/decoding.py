"""A decoded stimulus: what was seen, every sample that was drawn, captions, what was retrieved, and the controls."""

from collections.abc import Sequence

import streamlit as st

from voxelight.app.schemas import ArtifactAnswer, MetricAnswer, ResultAnswer
from voxelight.app.schemas_exports import ControlAnswer
from voxelight.app.services import Services
from voxelight.app.ui.pictures import show_picture
from voxelight.app.ui.wording import plain, say_many, say_name, say_number, say_score

_WIDTH = 150  # of a picture in a strip, pixels
_A_PAGE = 6  # stimuli of one result
_SHOWN_RETRIEVED = 5
_CONTROLS = ("null", "shuffled_betas", "nearest_training", "training_mean", "generator_ceiling")
_SHUFFLED_HELP = (
    "What the same decoder and generator made of another stimulus's betas: it should look less like this one."
)

Shown = tuple[ArtifactAnswer, str, str]  # picture, caption, text for who sees none


def show_decoded(services: Services, result: ResultAnswer, control: ControlAnswer) -> None:
    """Show one stimulus with all samples, as a generator drew them."""
    st.markdown(f"**{plain(result.item)}**  \nsubject {plain(result.subject)}")
    decoded, unrefined = _find(result, "reconstruction"), _find(result, "unrefined")
    strip: list[Shown] = [(file, "Seen", "Stimulus") for file in _find(result, "stimulus")[:1]]
    if decoded:
        strip += _name_samples(decoded, "Model estimate", "Reconstruction")
    else:
        strip += _name_samples(unrefined, "Model estimate, unrefined", "Unrefined")
    _show_strip(services, result, "seen", strip)
    if decoded:
        _say_samples(len(decoded))
    for each in result.decoded:
        if each.caption:
            st.markdown(f"{plain(each.caption)}  \n:small[Decoded caption {each.rank + 1}, seed {each.seed}]")
    _show_retrieved(services, result)
    if control.shuffled:
        st.caption(f"Control: decoded from the betas of {plain(control.shuffled_item)}", help=_SHUFFLED_HELP)
        samples = control.shuffled[: len(decoded) or 1]
        _show_strip(services, result, "shuffled", _name_samples(samples, "Control", "Control, from other betas"))
    if decoded and unrefined:
        st.caption("The same samples before refinement")
        _show_strip(services, result, "unrefined", _name_samples(unrefined, "Unrefined", "Unrefined"))
    _show_scores(result, result.metrics)


def _name_samples(files: Sequence[ArtifactAnswer], caption: str, alt: str) -> list[Shown]:
    numbers = [f", seed {number}" if len(files) > 1 else "" for number in range(1, len(files) + 1)]
    return [(file, caption + number, alt) for file, number in zip(files, numbers, strict=True)]


def show_reconstructed(services: Services, result: ResultAnswer, control: ControlAnswer) -> None:
    """Show the stimuli that were held out together, as a linear decoder drew them: one picture each."""
    st.markdown(f"**{plain(result.item)}**  \nsubject {plain(result.subject)}")
    seen, decoded = _find(result, "stimulus"), _find(result, "reconstruction")
    names = {each.artifact: each.stimulus for each in result.decoded}
    first = _choose_page(result, len(decoded))
    for number, file in list(enumerate(decoded))[first : first + _A_PAGE]:
        strip: list[Shown] = [(seen[number], "Seen", "Stimulus")] if number < len(seen) else []
        strip.append((file, "Model estimate", "Reconstruction"))
        _show_strip(services, result, f"pair-{number}", strip + (_show_control(control) if number == first else []))
        name = names.get(file.id, "")
        metrics = [metric for metric in result.metrics if metric.label == name]
        if len(decoded) > 1:
            st.caption(plain(name))
        _show_scores(result, metrics)


def _choose_page(result: ResultAnswer, count: int) -> int:
    pages = -(-count // _A_PAGE)
    if pages < 2:
        return 0
    return (st.pagination(pages, key=f"stimuli-{result.id}") - 1) * _A_PAGE


def _say_samples(count: int) -> None:
    if count == 1:
        st.caption("One sample: how much of it is luck is not known. Decode with three samples or more to see.")
    else:
        st.caption(f"All {count} samples that were drawn are shown, in their order; none was picked.")


def _show_control(control: ControlAnswer) -> list[Shown]:
    caption = f"Control: from the betas of {control.shuffled_item}"
    return [(file, caption, "Control, from other betas") for file in control.shuffled[:1]]


def _show_retrieved(services: Services, result: ResultAnswer) -> None:
    """Show the pictures of the data set that come closest; a picture's own is found or it is not."""
    pictures = _find(result, "retrieved")[:_SHOWN_RETRIEVED]
    if not pictures:
        return
    st.caption("Retrieved from the pictures of the data set, the closest first")
    names = result.decoded[0].retrieved
    strip = [
        (picture, f"{number}: the one seen" if names[number - 1] == result.item else str(number), f"Retrieved {number}")
        for number, picture in enumerate(pictures, 1)
    ]
    _show_strip(services, result, "retrieved", strip)


def _show_strip(services: Services, result: ResultAnswer, name: str, strip: Sequence[Shown]) -> None:
    """Show pictures beside each other, and below each other where there is no room."""
    if not strip:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="top"):
        for number, (picture, caption, alt) in enumerate(strip):
            with st.container(key=f"pixels-strip-{result.id}-{name}-{number}", width=_WIDTH):
                show_picture(services, picture, alt=alt, caption=caption)


def _show_scores(result: ResultAnswer, metrics: Sequence[MetricAnswer]) -> None:
    """Show scores, each beside its controls where an evaluation has given them."""
    if metrics:
        st.caption(" · ".join(_say_metric(metric, result) for metric in metrics))
    controlled = [metric for metric in metrics if metric.detail.get("controls")]
    if not controlled:
        return
    known = [name for name in _CONTROLS if any(name in metric.detail["controls"] for metric in controlled)]
    rows = [
        {"Score": say_score(metric.name), "This picture": say_number(metric.value)}
        | {say_name(name): say_number(metric.detail["controls"].get(name)) for name in known}
        for metric in controlled
    ]
    with st.expander(f"{say_many(len(rows), 'score')} beside the controls", icon=":material/balance:"):
        st.table(rows, hide_index=True, border="horizontal")
        st.caption("Null: the mean over whole stimuli permuted, of all pictures. The others are of this picture.")


def _say_metric(metric: MetricAnswer, result: ResultAnswer) -> str:
    label = f" of {plain(metric.label)}" if metric.label and len(result.stimuli) > 1 else ""
    null = metric.detail.get("controls", {}).get("null")
    beside = "" if null is None else f" (null {plain(say_number(null))})"
    return f"{plain(say_score(metric.name))}{label} {plain(say_number(metric.value))}{beside}"


def _find(result: ResultAnswer, role: str) -> list[ArtifactAnswer]:
    return sorted((artifact for artifact in result.artifacts if artifact.role == role), key=lambda found: found.name)
