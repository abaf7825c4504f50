"""Word scores of captions by the field's own libraries, the reference set named in each result."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from voxelight.models.errors import BadInput, Unavailable
from voxelight.neuro.evaluate.metrics.ptb import split_words
from voxelight.neuro.evaluate.metrics.result import Conditions, MetricResult, average

_INSTALL = "Run pip install 'voxelight[evaluate]'"
_PTB = "Penn Treebank words in lower case, no punctuation (CoreNLP 3.4.1's rules in Python)"
_SPICE_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


@dataclass(frozen=True)
class References:
    """What captions are compared with.

    Parameters
    ----------
    name : the reference set, such as ``coco captions``, ``GIT captions``, ``class names``
    texts : one or more sentences for every picture

    Raises
    ------
    BadInput
        The set has no name, or a picture has no sentence.
    """

    name: str
    texts: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        empty = [row for row, texts in enumerate(self.texts) if not texts or not all(text.strip() for text in texts)]
        if not self.name.strip() or not self.texts or empty:
            raise BadInput(
                f"the reference set {self.name!r} of {len(self.texts)} pictures, {len(empty)} of them without words",
                "a name and one sentence or more for every picture",
                "Name the set, such as coco captions, and leave out pictures without a caption.",
            )


@dataclass(frozen=True)
class Captions:
    """Captions beside their references; `words` is what COCO's scores count.

    Raises
    ------
    BadInput
        The numbers of pictures differ.
    """

    texts: tuple[str, ...]
    references: References

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.references.texts):
            raise BadInput(
                f"{len(self.texts)} captions for {len(self.references.texts)} pictures",
                "one caption a picture, in one order",
                "Choose one caption a picture before scoring.",
            )

    def words(self) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
        """Return references and captions by picture, as words joined by spaces."""
        given, told = ([[" ".join(split_words(text)) for text in texts] for texts in side] for side in self.sides())
        return dict(enumerate(given)), dict(enumerate(told))

    def sides(self) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
        """Return references and captions, each as the sentences of every picture."""
        return self.references.texts, tuple((text,) for text in self.texts)

    def conditions(self, preprocessing: str, implementation: str) -> Conditions:
        """Return what a score of these captions was computed on."""
        return Conditions(preprocessing, reference_set=self.references.name, implementation=implementation)


def score_bleu(captions: Captions) -> list[MetricResult]:
    """Score BLEU-1 to BLEU-4 (Papineni et al. 2002) of the whole set, closest reference length.

    The scores of pictures are smoothed BLEU of single sentences; their mean is not the value.

    Raises
    ------
    Unavailable
        pycocoevalcap is not installed.
    """
    scorer = _need("pycocoevalcap.bleu.bleu", "Bleu")(4)
    values, scores = scorer.compute_score(*captions.words(), verbose=0)
    conditions = captions.conditions(_PTB, "pycocoevalcap")
    return [
        MetricResult(f"bleu_{n}", np.asarray(own, np.float64), float(value), "whole set", None, conditions)
        for n, value, own in zip((1, 2, 3, 4), values, scores, strict=True)
    ]


def score_cider(captions: Captions) -> list[MetricResult]:
    """Score CIDEr-D (Vedantam et al. 2015), which COCO's code calls CIDEr; n-grams are weighed by these references.

    Raises
    ------
    BadInput
        There is one picture only: every weight would be zero.
    Unavailable
        pycocoevalcap is not installed.
    """
    if len(captions.texts) < 2:
        raise BadInput("one picture", "two or more", "CIDEr weighs words by how many pictures they describe.")
    value, scores = _need("pycocoevalcap.cider.cider", "Cider")().compute_score(*captions.words())
    conditions = captions.conditions(f"{_PTB}; document frequencies of this reference set", "pycocoevalcap")
    return [MetricResult("cider", np.asarray(scores), float(value), "mean over pictures", None, conditions)]


def score_rouge_coco(captions: Captions) -> list[MetricResult]:
    """Score ROUGE-L as COCO's code does: F with β = 1.2 of the best precision and the best recall over references.

    Raises
    ------
    Unavailable
        pycocoevalcap is not installed.
    """
    _, scores = _need("pycocoevalcap.rouge.rouge", "Rouge")().compute_score(*captions.words())
    return [average("rouge_l_coco", scores, None, captions.conditions(_PTB, "pycocoevalcap"))]


def score_rouge(captions: Captions) -> list[MetricResult]:
    """Score ROUGE-1 and ROUGE-L (Lin 2004) as `evaluate` does: F1 of the best reference, no stemming.

    Raises
    ------
    Unavailable
        rouge-score is not installed.
    """
    scorer = _need("rouge_score.rouge_scorer", "RougeScorer")(["rouge1", "rougeL"], use_stemmer=False)
    found = [scorer.score_multi(list(texts), text) for texts, text in _pairs(captions)]
    conditions = captions.conditions("rouge-score's own words: letters and digits, lower case", "rouge-score")
    return [
        average(name, np.array([scores[key].fmeasure for scores in found]), None, conditions)
        for name, key in (("rouge_1", "rouge1"), ("rouge_l", "rougeL"))
    ]


def score_meteor(captions: Captions) -> list[MetricResult]:
    """Score METEOR 1.5 (Denkowski and Lavie 2014), of the whole set, by its own Java program.

    The mean over pictures is another number than the value.

    Raises
    ------
    Unavailable
        pycocoevalcap, which brings the program, or Java is missing.
    """
    meteor = _need("pycocoevalcap.meteor.meteor", "Meteor")
    _need_java("METEOR 1.5")
    scorer = meteor()
    try:
        value, scores = scorer.compute_score(*captions.words())
    finally:
        # Its destructor ends the program and leaves these open.
        scorer.meteor_p.stdout.close()
        scorer.meteor_p.stderr.close()
    conditions = captions.conditions(f"{_PTB}; -norm", "meteor-1.5.jar of pycocoevalcap")
    return [MetricResult("meteor_1_5", np.asarray(scores), float(value), "whole set", None, conditions)]


def score_meteor_nltk(captions: Captions) -> list[MetricResult]:
    """Score METEOR as nltk, and so `evaluate`, does: exact words, stems and synonyms of WordNet.

    Raises
    ------
    Unavailable
        nltk or its WordNet is missing.
    """
    _need("nltk.translate.meteor_score", "single_meteor_score")
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise Unavailable(
            "no WordNet among the data of nltk",
            "METEOR with synonyms; meteor_nltk_stems does without, and is another number",
            "With a network, run python -m nltk.downloader wordnet",
        ) from None
    return [_meteor_nltk("meteor_nltk", captions, wordnet, "exact, Porter stems, WordNet")]


def score_meteor_stems(captions: Captions) -> list[MetricResult]:
    """Score METEOR as nltk does, without the stage of synonyms: it needs no data, and is lower than the figure with it.

    Raises
    ------
    Unavailable
        nltk is missing.
    """
    return [_meteor_nltk("meteor_nltk_stems", captions, _NoSynonyms(), "exact and Porter stems, no synonyms")]


def score_spice(captions: Captions) -> list[MetricResult]:
    """Score SPICE (Anderson et al. 2016), where its parser is installed.

    Raises
    ------
    Unavailable
        pycocoevalcap, Java, or the parser, which the package does not carry, is missing.
    """
    # Its constructor would fetch the parser unasked.
    spice = _need("pycocoevalcap.spice.spice", "Spice")
    _need_java("SPICE")
    spec = find_spec("pycocoevalcap.spice")
    library = Path(next(iter(spec.submodule_search_locations or []), "")) / "lib" if spec else Path()
    missing = [jar for jar in _SPICE_JARS if not (library / jar).is_file()]
    if missing:
        raise Unavailable(
            f"no {' and no '.join(missing)}",
            "the parser of SPICE, Stanford CoreNLP 3.6.0 (GPL-3.0, 375 MB), and Java 8",
            "With a network, run python -m pycocoevalcap.spice.get_stanford_models",
        )
    _, found = spice().compute_score(*captions.words())
    scores = np.array([row["All"]["f"] for row in found])
    return [average("spice", scores, None, captions.conditions(_PTB, "spice-1.0.jar of pycocoevalcap"))]


def score_words(captions: Captions) -> tuple[list[MetricResult], dict[str, Unavailable]]:
    """Compute every word score that can be had here.

    Returns
    -------
    results : list of MetricResult
    missing : score -> why it could not be computed
    """
    results: list[MetricResult] = []
    missing: dict[str, Unavailable] = {}
    for name, score in WORD_SCORES.items():
        try:
            results.extend(score(captions))
        except Unavailable as reason:
            missing[name] = reason
    return results, missing


class _NoSynonyms:
    """Stands for WordNet where there is none."""

    def synsets(self, _: str) -> list[Any]:
        return []


def _meteor_nltk(name: str, captions: Captions, wordnet: Any, stages: str) -> MetricResult:
    meteor = _need("nltk.translate.meteor_score", "meteor_score")
    split = _need("nltk.tokenize", "NLTKWordTokenizer")().tokenize
    scores = [meteor([split(text) for text in texts], split(told), wordnet=wordnet) for texts, told in _pairs(captions)]
    preprocessing = f"nltk's words, a caption being one sentence; {stages}; best reference; α .9, β 3, γ .5"
    return average(name, np.array(scores), None, captions.conditions(preprocessing, "nltk"))


def _pairs(captions: Captions) -> Sequence[tuple[tuple[str, ...], str]]:
    return list(zip(captions.references.texts, captions.texts, strict=True))


def _need(module: str, name: str) -> Any:
    from importlib import import_module

    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        package = module.partition(".")[0]
        raise Unavailable(f"no package {package} ({error})", "what computes this score", _INSTALL) from error


def _need_java(score: str) -> None:
    if shutil.which("java") is None:
        raise Unavailable("no java on the path", f"Java, in which {score} is written", "Install a Java runtime")


WORD_SCORES: dict[str, Callable[[Captions], list[MetricResult]]] = {
    "cider": score_cider,
    "spice": score_spice,
    "meteor_1_5": score_meteor,
    "meteor_nltk": score_meteor_nltk,
    "meteor_nltk_stems": score_meteor_stems,
    "rouge": score_rouge,
    "rouge_l_coco": score_rouge_coco,
    "bleu": score_bleu,
}
