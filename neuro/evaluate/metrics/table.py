"""The scores by name, those that agree with people first. Imports no network."""

from dataclasses import dataclass
from typing import Literal

_STUDY = "SEED, ICLR 2026"
_LOW = 0.3

Family = Literal["distance", "two-way", "retrieval", "captions", "brain", "pixels"]


@dataclass(frozen=True)
class MetricRow:
    """What is known of a score before it is computed.

    Parameters
    ----------
    name : as it stands in a result
    title : as a person reads it
    family : what kind of score it is
    higher_is_better : direction
    agreement : correlation with the ratings of people over reconstructions; None: not measured
    remark : what else limits the score, a sentence
    """

    name: str
    title: str
    family: Family
    higher_is_better: bool = True
    agreement: float | None = None
    remark: str = ""

    @property
    def low_validity(self) -> bool:
        """Whether people hardly agree with the score."""
        return self.agreement is not None and self.agreement < _LOW

    @property
    def validity(self) -> str:
        """How far people agree with the score, and what else limits it."""
        if self.agreement is None:
            known = "Agreement with people: not measured."
        else:
            known = f"Correlation with ratings of people: {self.agreement:.2f} ({_STUDY})."
        return f"{known} {self.remark}".strip()


_LEXICAL = "Rewards frequent words: read it beside the constant caption and the shuffled control."
_SEED = "One third of a score that reaches .81 with people (SEED, ICLR 2026)."
_POOL = "Depends on the size of the pool."
_LAYERS = "Chance is .5 only for a decoder without a preference for typical pictures: read it beside the null."
_NLTK = "Another number than METEOR 1.5: never compare the two."

_ROWS = (
    MetricRow("effnet_distance", "EffNet-B1 distance", "distance", higher_is_better=False, agreement=0.75),
    MetricRow("sentence_similarity", "Sentence similarity (MiniLM)", "captions", remark=_SEED),
    MetricRow("retrieval_image_of_brain", "Retrieval: the image of a brain", "retrieval", remark=_POOL),
    MetricRow("retrieval_brain_of_image", "Retrieval: the brain of an image", "retrieval", remark=_POOL),
    MetricRow("cider", "CIDEr-D", "captions", remark="The widest range of the word scores: shuffled 4, a person 95."),
    MetricRow("swav_distance", "SwAV distance", "distance", higher_is_better=False, agreement=0.58),
    MetricRow("inception_two_way", "Inception", "two-way", agreement=0.48, remark=_LAYERS),
    MetricRow("clip_two_way", "CLIP ViT-L/14", "two-way", agreement=0.44, remark=_LAYERS),
    MetricRow(
        "lite_distance",
        "EfficientNet-lite0 distance",
        "distance",
        higher_is_better=False,
        remark="The judge where no other weights can be had; stands in for EffNet-B1.",
    ),
    MetricRow("lite_two_way", "EfficientNet-lite0", "two-way", remark=_LAYERS),
    MetricRow("spice", "SPICE", "captions"),
    MetricRow("clip_score", "CLIPScore", "captions", remark="Without references; 2.5 times a cosine."),
    MetricRow("ref_clip_score", "RefCLIPScore", "captions"),
    MetricRow("clip_text_similarity", "CLIP text similarity", "captions"),
    MetricRow("brain_correlation", "Brain correlation", "brain", remark="Only as good as its encoder."),
    MetricRow("meteor_1_5", "METEOR 1.5 (Java)", "captions", remark=_LEXICAL),
    MetricRow("meteor_nltk", "METEOR (nltk, WordNet)", "captions", remark=_NLTK),
    MetricRow("meteor_nltk_stems", "METEOR (nltk, exact and stems only)", "captions", remark=_NLTK),
    MetricRow("rouge_1", "ROUGE-1", "captions", remark=_LEXICAL),
    MetricRow("rouge_l", "ROUGE-L", "captions", remark=_LEXICAL),
    MetricRow("rouge_l_coco", "ROUGE-L (COCO, β = 1.2)", "captions", remark=_LEXICAL),
    *(MetricRow(f"bleu_{n}", f"BLEU-{n}", "captions", remark=_LEXICAL) for n in (1, 2, 3, 4)),
    MetricRow("alexnet5_two_way", "AlexNet(5)", "two-way", agreement=0.26, remark=_LAYERS),
    MetricRow("alexnet2_two_way", "AlexNet(2)", "two-way", remark=_LAYERS),
    MetricRow("pixel_correlation", "PixCorr", "pixels", agreement=0.12, remark="Blur alone raises it."),
    MetricRow("ssim", "SSIM", "pixels", agreement=0.11, remark="Blur alone raises it."),
)
METRICS: dict[str, MetricRow] = {row.name: row for row in _ROWS}
