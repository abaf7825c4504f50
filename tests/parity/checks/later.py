"""Fixtures of systems that are not built yet; their cases are named, so that an unknown one still fails."""

from collections.abc import Callable

from checks.cases import Case
from checks.files import Fixture
from checks.segmentation import SegmentationKind

CDAL = SegmentationKind(
    cases={},
    later={
        r"schedule_(vp|geo)_T\d+_[\d.]+_[\d.]+": "cDAL",
        r"q_sample_pairs|sample_posterior|sampling_loop_stub|majority_vote": "cDAL",
        r"mapping_network|adagn|timestep_embedding_\d+|fir_resample|resblock_\w+|attn_block|generator_\w+": "cDAL",
        r"d_downblock|disc_\w+|attn_from_features": "cDAL",
    },
)
MSGA = SegmentationKind(
    cases={},
    later={
        r"[pc]am|[pc]am_layer|semantic|multiconv|head|loss|dice2d": "multi-scale self-guided attention",
    },
)


def later(system: str) -> Callable[[Fixture], list[Case]]:
    """Return the plan of a file that is wholly of a system not built yet."""

    def plan(fixture: Fixture) -> list[Case]:
        assert fixture.facts
        return [Case(fixture, "file", later=system)]

    return plan


LATER = {
    r"seg_.+_cdal": CDAL.plan,
    r"seg_.+_msga": MSGA.plan,
    r"seg_.+_patient_metrics": later("patient-wise metrics"),
    r"me1_backbone|me1_lowlevel": later("MindEye1"),
}
