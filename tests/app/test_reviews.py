"""Reviews, their agreement, a job's numbers and follow-up, on both kinds of database."""

import uuid
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.schemas_reviews import FollowupQuery, ReviewRequest
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage.formats.images import decode_png
from voxelight.storage.results import Outcome, OutputFile, Score, record_run
from voxelight.storage.schema import Correction

SIDE = 24
NAMES = {1: "lesion", 2: "oedema"}


@dataclass(frozen=True)
class Study:
    """A job over simulated lesions, one subject with several sessions."""

    job: uuid.UUID
    runs: list[uuid.UUID]


def ball(radius):
    apart = np.linalg.norm(np.indices((SIDE,) * 3) - (SIDE - 1) / 2, axis=0)
    return (apart < radius).astype(np.uint8)


def store_map(labels):
    image = nib.Nifti1Image(labels, np.eye(4))
    return image.to_bytes()


@pytest.fixture
def study(services, tmp_path):
    """Seven sessions of a simulated lesion that grows, as a worker writes its results down."""
    services.datasets.create(DatasetRequest(name="grown", consent="simulated", purpose="a test", simulated=True))
    radii = [5, 5.5, 6, 6.2, 6.5, 7, 11]
    rng = np.random.default_rng(0)
    for number, radius in enumerate(radii, 1):
        image = (rng.normal(100, 5, (SIDE,) * 3) + 40 * ball(radius)).astype(np.float32)
        path = tmp_path / f"visit{number}.nii"
        nib.save(nib.Nifti1Image(image, np.eye(4)), path)
        place = ScanRequest(name=path.name, dataset="grown", subject="07", session=str(number))
        services.scans.ingest_path(path, place)
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="grown"))
    runs = services.jobs.list_runs(job.id)
    for run in runs:
        radius = radii[int(run.scan.removeprefix("visit").removesuffix(".nii")) - 1]
        volume = float(ball(radius).sum() / 1000)
        files = (OutputFile("label_map", "lesion_dseg.nii", "application/octet-stream", store_map(ball(radius))),)
        scores = (
            Score("volume", volume, "lesion", volume - 0.05, volume + 0.05, "ml", {"interval": "5 folds"}),
            Score("volume", 0.0, "oedema", unit="ml"),
        )
        volumes = {"lesion": volume, "oedema": 0.0}
        record_run(services.stores, run.id, Outcome(files, scores=scores, label_names=NAMES, volumes_ml=volumes))
    return Study(job.id, [run.id for run in runs])


def say(services, run, reviewer, verdict, comment=""):
    return services.reviews.save(run, reviewer, ReviewRequest(verdict=verdict, comment=comment))


def test_a_second_reader_sees_nothing_of_the_first_until_the_own_view_is_saved(services, study):
    run = study.runs[0]
    say(services, run, "Ada", "reject", "leaks")
    blind = services.reviews.show_case(run, "Bob")
    assert (blind.own, blind.others, blind.hidden) == (None, [], 1)
    assert services.reviews.show_case(run).others == []
    say(services, run, "Bob", "accept")
    seen = services.reviews.show_case(run, "Bob")
    assert [(each.reviewer, each.verdict, each.comment) for each in seen.others] == [("Ada", "reject", "leaks")]
    assert seen.hidden == 0


def test_progress_and_filters_follow_the_own_verdicts(services, study):
    for run, verdict in zip(study.runs, ("accept", "accept", "unsure"), strict=False):
        say(services, run, "Ada", verdict)
    say(services, study.runs[3], "Bob", "reject")
    progress = services.reviews.find_progress(study.job, "Ada")
    assert (progress.total, progress.reviewed, progress.accept, progress.unsure, progress.reject) == (7, 3, 2, 1, 0)

    def listed(verdict):
        return [each.run for each in services.reviews.list_cases(study.job, "Ada", verdict).items]

    assert listed("accept") == study.runs[:2]
    assert listed("none") == study.runs[3:]
    assert listed("reject") == []
    assert {each.reviewer: each.reviewed for each in services.reviews.list_reviewers(study.job)} == {"Ada": 3, "Bob": 1}
    with pytest.raises(BadInput, match="of nobody"):
        services.reviews.list_cases(study.job, None, "none")


def test_pages_of_cases_hold_each_once_in_the_order_of_the_job(services, study):
    found, cursor = [], None
    while True:
        page = services.reviews.list_cases(study.job, "Ada", limit=3, cursor=cursor)
        found += [each.run for each in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert found == study.runs
    with pytest.raises(BadInput, match="cursor"):
        services.reviews.list_cases(study.job, cursor="nonsense")


def test_a_view_is_replaced_only_in_the_version_that_was_seen(services, study):
    run = study.runs[0]
    first = say(services, run, "Ada", "accept")
    second = services.reviews.save(run, "Ada", ReviewRequest(verdict="reject"), first.version)
    assert (first.version, second.version) == (1, 2)
    with pytest.raises(Conflict, match="version 2"):
        services.reviews.save(run, "Ada", ReviewRequest(verdict="accept"), first.version)
    with pytest.raises(Conflict, match="no view"):
        services.reviews.save(run, "Bob", ReviewRequest(verdict="accept"), 1)
    services.reviews.withdraw(run, "Ada", second.version)
    with pytest.raises(NotFound, match="no view"):
        services.reviews.show(run, "Ada")


def test_agreement_is_that_of_scikit_learn_and_counts_what_was_revised(services, study):
    ours = ["accept", "accept", "reject", "unsure", "accept", "reject"]
    theirs = ["accept", "reject", "reject", "unsure", "accept", "accept"]
    for run, mine, other in zip(study.runs, ours, theirs, strict=False):
        say(services, run, "Ada", mine)
        say(services, run, "Bob", other)
    say(services, study.runs[6], "Ada", "accept")  # Bob has not seen it
    found = services.quality.agree(study.job, "Ada", "Bob")
    assert found.items == 6
    assert found.kappa == pytest.approx(cohen_kappa_score(ours, theirs))
    assert found.low < found.kappa < found.high
    assert [each.run for each in found.differ] == [study.runs[1], study.runs[5]]
    assert found.revised == 0
    say(services, study.runs[1], "Ada", "reject")
    assert services.quality.agree(study.job, "Ada", "Bob").revised == 1
    nobody = services.quality.agree(study.job, "Ada", "Eve")
    assert (nobody.items, nobody.kappa) == (0, None)
    with pytest.raises(BadInput, match="two reviewers"):
        services.quality.agree(study.job, "Ada", "Ada")


def test_the_newest_corrections_of_two_readers_are_compared(services, study, monkeypatch):
    run = study.runs[2]
    drawn = {"Ada": [ball(9), ball(6)], "Bob": [ball(5)]}
    with services.stores.sessions.begin() as session:
        from voxelight.storage.schema import Artifact
        from voxelight.storage.stores import name_blob

        for author, maps in drawn.items():
            for number, labels in enumerate(maps):
                ref = services.stores.blobs.put_bytes(store_map(labels))
                name_blob(session, ref, "application/octet-stream")
                artifact = Artifact(
                    job_id=study.job,
                    run_id=run,
                    role="correction",
                    name=f"{author}-{number}.nii",
                    blob_sha256=ref.sha256,
                )
                session.add(artifact)
                session.flush()
                session.add(Correction(run_id=run, artifact_id=artifact.id, author=author, volumes_ml={"lesion": 9.9}))
                session.flush()
    [found] = services.quality.agree(study.job, "Ada", "Bob").dice
    expected = 2 * ball(5).sum() / (ball(5).sum() + ball(6).sum())
    assert (found.label, found.cases, found.subjects) == ("lesion", 1, 1)
    assert found.dice == pytest.approx(expected)
    assert services.reviews.show_case(run).corrections == 3
    visit = services.followup.show("grown", "07", FollowupQuery()).structures[0].visits[2]
    assert (visit.volume_ml, visit.corrected_by) == (9.9, "Bob")
    assert visit.low_ml is None


def test_a_case_that_stands_apart_is_found(services, study):
    group = services.quality.group(study.job)
    assert group.cases == 7
    volume = next(each for each in group.measures if (each.name, each.label) == ("volume", "lesion"))
    assert [value.run for value in volume.values if value.outlier] == [study.runs[6]]
    [outlier] = services.reviews.show_case(study.runs[6]).outliers
    assert (outlier.name, outlier.label) == ("volume", "lesion")
    assert outlier.z > group.far
    assert not services.reviews.show_case(study.runs[0]).outliers


def test_the_sheet_is_drawn_once(services, study):
    sheet, tag = services.sheets.draw(study.runs[0])
    assert decode_png(sheet).shape[2] == 3
    folder = services.stores.cache / "sheets"
    [kept] = folder.iterdir()
    assert kept.name.startswith(f"{study.runs[0]}-")
    kept.write_bytes(b"kept")
    assert services.sheets.draw(study.runs[0]) == (b"kept", tag)
    assert services.sheets.draw(study.runs[0], "radiological")[1] != tag


def test_what_was_decoded_has_a_sheet_and_cases_with_stimulus_and_estimates(services, brain):
    from voxelight.app.runner import Runner

    request = JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=brain, options={"permutations": 19})
    job = services.jobs.submit(request)
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    case = services.reviews.list_cases(job.id, "Ada").items[0]
    assert [picture.title.split()[0] for picture in case.pictures[:2]] == ["Seen", "Model"]
    assert "not a photograph of thought" in case.notice
    assert case.simulated
    assert decode_png(services.sheets.draw(case.run)[0]).size


def test_a_simulated_lesion_is_followed_over_its_sessions(services, study):
    answer = services.followup.show("grown", "07", FollowupQuery(label="lesion", day=["1:0", "2:90", "3:180"]))
    assert answer.simulated
    [structure] = answer.structures
    assert [visit.session for visit in structure.visits] == list("1234567")
    steps = structure.growth
    assert len(steps) == 7
    assert {step.source for step in steps} == {"spread"}
    assert "5 folds" in answer.interval
    assert any("nothing was registered" in warning for warning in answer.warnings)
    assert steps[0].doubling_days > 0
    assert steps[3].doubling_days is None
    assert steps[0].beyond
    strict = services.followup.show("grown", "07", FollowupQuery(label="lesion", minimal_change_percent=60))
    assert [step.beyond for step in strict.structures[0].growth] == [False] * 5 + [True, True]


def test_without_a_spread_the_stated_change_counts_and_without_both_nothing_is_flagged(services, study):
    query = FollowupQuery(label="oedema")
    unknown = services.followup.show("grown", "07", query)
    assert {step.beyond for step in unknown.structures[0].growth} == {None}
    assert "None" in unknown.interval
    stated = services.followup.show("grown", "07", query.model_copy(update={"minimal_change_ml": 0.5}))
    assert {step.source for step in stated.structures[0].growth} == {"stated"}
    assert {step.beyond for step in stated.structures[0].growth} == {False}


def test_what_can_be_followed_is_listed_and_the_rest_refused(services, study):
    [series] = services.followup.list_series("grown")
    assert (series.subject, series.sessions, series.labels) == ("07", list("1234567"), ["lesion", "oedema"])
    for wrong, refusal in (
        ({"day": ["1:x"]}, BadInput),
        ({"day": ["nine:1"]}, BadInput),
        ({"day": ["1:9", "2:3"]}, BadInput),
        ({"label": "nothing"}, NotFound),
    ):
        with pytest.raises(refusal):
            services.followup.show("grown", "07", FollowupQuery(**wrong))
    with pytest.raises(NotFound, match="no subject"):
        services.followup.show("grown", "99", FollowupQuery())
    assert services.followup.show("grown", "07", FollowupQuery(scan="t2*")).structures == []
