"""The card of a decoder that was trained here."""

from collections.abc import Mapping
from typing import Any

from voxelight.app.schemas import DECODING_NOTICE
from voxelight.storage.decoders import TrainedDecoder

_SIMULATED = "**SIMULATED**: the betas were made by a model, nobody was scanned. It reads the betas of these subjects."
_HOW = (
    "Retrieval and two-way identification by the cosine of tokens, trials of a picture averaged, with 95 % intervals. "
    "The null permutes whole stimuli; the oracle of a simulated subject is the best that its noise allows."
)
_RANDOM = "**RANDOM ENCODER**: it predicts the tokens of an image encoder that learnt nothing."


def write_card(decoder: TrainedDecoder, pictures: int) -> str:
    """Return the card of a decoder in Markdown.

    Parameters
    ----------
    decoder : with its provenance
    pictures : that were trained on
    """
    told = decoder.provenance
    recipe, data = told["recipe"], told["data"]
    subjects = ", ".join(f"{label} ({voxels} voxels)" for label, voxels in decoder.subjects)
    rank = recipe["adapter_rank"]
    rows = {
        "predicts": f"tokens of the profile `{decoder.profile}`",
        "subjects": subjects,
        "data": f"{data['name']}: {pictures} pictures",
        "source": data.get("source") or "not stated",
        "licence of the data": data.get("licence") or "not stated",
        "held out": told["held_out"],
        "betas": decoder.normalisation,
        "recipe": f"`{recipe['name']}`, {recipe['sessions']} sessions of each subject, {told['steps']} steps of "
        f"{recipe['batch']} trials a subject, seed {recipe['seed']}, {recipe['precision']}",
        "starts from": told["start_from"] or "fresh weights",
        "adapter": f"rank {rank}" if rank else "none, a full map of every voxel",
        "hash of the trials": f"`{told['training']['data'][:16]}`",
        "made by": f"{told['revision']}, {told['device']}",
    }
    return join_card(decoder, rows)


def join_card(decoder: TrainedDecoder, rows: Mapping[str, Any]) -> str:
    """Return a card: what a decoder is, row by row, its scores on held-out pictures, and its guard-rails."""
    told = decoder.provenance
    marks = [_SIMULATED] * decoder.simulated + [_RANDOM] * bool(told["random_encoder"])
    table = "\n".join(f"| {name} | {' '.join(str(value).split()).replace('|', '/')} |" for name, value in rows.items())
    scores = "\n".join(_tell(label, score) for label, found in told["scores"].items() for score in found)
    guards = "\n".join(f"* {line}" for line in told["guards"])
    head = "\n\n".join([f"# {decoder.name}", *marks, f"**{DECODING_NOTICE}**"])
    columns = ("subject", "score", "value", "chance", "null", "p", "oracle", "of it", "pictures")
    header = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    parts = (
        head,
        f"| | |\n|---|---|\n{table}",
        "## On pictures that were held out",
        _HOW,
        f"{header}\n{scores}",
        guards,
    )
    return "\n\n".join(parts) + "\n"


def _tell(label: str, score: Mapping[str, Any]) -> str:
    def number(name: str) -> str:
        return f"{score[name]:.3g}" if name in score else ""

    value = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    known = (number(name) for name in ("chance", "null_mean", "p", "oracle", "fraction_of_oracle"))
    cells = (label, score["name"], value, *known, str(score["n"]))
    return f"| {' | '.join(cells)} |"
