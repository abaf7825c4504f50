"""Fixtures of systems that are not built yet; their cases are named, so that an unknown one still fails."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class WholeFile:
    """A kind of file that is wholly of a system not built yet."""

    system: str

    def plan(self, fixture: Fixture) -> list[Case]:
        """Return one case, if the file can be read."""
        return [Case(fixture, "file", later=self.system)] if fixture.facts else []


PATIENT_METRICS = WholeFile("patient-wise metrics")
MINDEYE1 = WholeFile("MindEye1")
