"""Compare two jobs, or two models, over what both worked on."""

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from voxelight.app.schemas import DECODING_NOTICE, NOTICE, RANDOM_NOTICE, JobKind, ResultQuery
from voxelight.app.schemas_search import CompareAnswer, DifferenceAnswer, ItemAnswer, PairAnswer, SideAnswer
from voxelight.app.verbs.overlap import find_overlap
from voxelight.app.verbs.results import read_conditions
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.conditions import Wanted
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Dataset, Job, Metric, Model, Reconstruction, Run, Scan, Subject
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.neuro.evaluate.compare import PairedTest

MOST = 20_000  # results of a side
SHOWN = 100
FEWEST_SUBJECTS = 5

Item = tuple[str, str]  # subject, and what was worked on: content of a scan, or a stimulus
Kind = tuple[str, str, str]  # metric, label, unit


@dataclass(frozen=True)
class _Value:
    run: uuid.UUID
    name: str
    value: float


@dataclass(frozen=True, eq=False)
class _Side:
    about: SideAnswer
    kind: str
    runs: dict[Item, tuple[uuid.UUID, str]]  # with the name that a person knows the item by
    values: dict[Kind, dict[Item, _Value]]
    repeated: int


class Compare:
    """Paired differences: the same scans, or the same stimuli, on both sides."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def jobs(self, first: uuid.UUID, second: uuid.UUID, limit: int = SHOWN) -> CompareAnswer:
        """Compare two jobs; see `compare`.

        Raises
        ------
        NotFound
            There is no such job.
        """
        with self._stores.sessions() as session:
            for job in (first, second):
                find_row(session, Job, job)
        return self.compare(ResultQuery(job=first), ResultQuery(job=second), limit)

    def models(self, first: str, second: str, query: ResultQuery, limit: int = SHOWN) -> CompareAnswer:
        """Compare two models over the results that fit a query; see `compare`."""
        one, other = (query.model_copy(update={"model": name}) for name in (first, second))
        return self.compare(one, other, limit)

    def overlap(self, first: uuid.UUID, second: uuid.UUID) -> dict[str, float]:
        """Return the Dice of the label maps of two results, by label; see `find_overlap`.

        Raises
        ------
        BadInput
            One is no segmentation, or the two lie on different grids.
        """
        with self._stores.sessions() as session:
            return find_overlap(session, self._stores, first, second)

    def compare(self, first: ResultQuery, second: ResultQuery, limit: int = SHOWN) -> CompareAnswer:
        """Compare the results of two queries, item by item; of several results of an item the newest counts.

        Parameters
        ----------
        first, second : which results
        limit : items shown of each metric, those that differ most, and pairs of results

        Raises
        ------
        BadInput
            The two are the same, of different kinds, or have no item in common.
        NotFound
            One has no result.
        """
        if first == second:
            raise BadInput("the same twice", "two jobs or two models", "Choose another one for the second side.")
        with self._stores.sessions() as session:
            one, other = (_read_side(session, query) for query in (first, second))
        if one.kind != other.kind:
            raise BadInput(f"a {one.kind} and a {other.kind}", "two of one kind", "Compare like with like.")
        shared = [item for item in sorted(one.runs) if item in other.runs]
        if not shared:
            what = "scan" if one.kind == "segment" else "stimulus of the same subject"
            raise BadInput("nothing that both worked on", f"one {what} or more", "Run both over the same data.")
        return CompareAnswer(
            kind=cast(JobKind, one.kind),
            first=one.about,
            second=other.about,
            matched=len(shared),
            only_first=len(one.runs) - len(shared),
            only_second=len(other.runs) - len(shared),
            metrics=_find_differences(one, other, limit),
            pairs=[
                PairAnswer(subject=item[0], item=one.runs[item][1], first=one.runs[item][0], second=other.runs[item][0])
                for item in shared[:limit]
            ],
            notes=list(_find_notes(one, other)),
            notice=_find_notice(one, other),
        )


def _read_side(session: Session, query: ResultQuery) -> _Side:
    wanted = read_conditions(query)
    count = session.scalar(
        select(func.count()).select_from(select(Run.id).where(*wanted.hold()).limit(MOST + 1).subquery())
    )
    if not count:
        raise NotFound(
            f"no result of {_name(query)}", "at least one", "Wait until it is done, or loosen the conditions."
        )
    if count > MOST:
        raise BadInput(f"more than {MOST} results of {_name(query)}", "fewer", "Narrow it down, to a data set for one.")
    rows = session.execute(
        select(
            Run.id, Run.item_key, Job.id.label("job"), Job.kind, Job.recipe, Model.name, Model.version, Model.config,
            Dataset.simulated, Subject.label, Scan.blob_sha256, Scan.name.label("scan"),
        )
        .join(Run.job).join(Job.dataset).join(Job.model).join(Run.subject).join(Run.scan)
        .where(*wanted.hold())
        .order_by(Run.finished_at, Run.id)
    ).all()  # fmt: skip
    kinds = {row.kind for row in rows}
    if len(kinds) > 1:
        raise BadInput(f"results of the kinds {', '.join(sorted(kinds))}", "of one kind", "Name a kind.")
    about = SideAnswer(
        name=_name(query),
        jobs=list(dict.fromkeys(row.job for row in rows)),
        recipes=sorted({row.recipe for row in rows}),
        models=sorted({f"{row.name} {row.version}" for row in rows}),
        results=len(rows),
        simulated=any(row.simulated for row in rows),
        random_weights=any(row.config.get("random_weights", False) for row in rows),
    )
    items = {row.id: _name_items(row) for row in rows}
    return _gather(session, wanted, about, kinds.pop(), items)


def _name_items(row: Any) -> tuple[str, str, str]:
    """Return subject, key and readable name of what a run worked on; scans are told by their content."""
    return (row.label, row.blob_sha256, row.scan) if row.kind == "segment" else (row.label, row.item_key, row.item_key)


def _gather(
    session: Session, wanted: Wanted, about: SideAnswer, kind: str, items: Mapping[uuid.UUID, tuple[str, str, str]]
) -> _Side:
    """Read scores, by structure for label maps and by stimulus for pictures."""
    runs: dict[Item, tuple[uuid.UUID, str]] = {}
    stimuli = _read_stimuli(session, wanted) if kind == "reconstruct" else {}
    seen = 0
    for run_id, (subject, key, name) in items.items():  # the newest come last
        for own, shown in [(each, each) for each in stimuli.get(run_id, [])] or [(key, name)]:
            runs[subject, own] = (run_id, shown)
            seen += 1
    values: dict[Kind, dict[Item, _Value]] = defaultdict(dict)
    scores = select(Metric.run_id, Metric.name, Metric.label, Metric.unit, Metric.value)
    for row in session.execute(scores.join(Run, Run.id == Metric.run_id).where(*wanted.hold())):
        if row.run_id not in items:
            continue
        subject, key, name = items[row.run_id]
        item = (subject, row.label) if kind == "reconstruct" and row.label else (subject, key)
        if runs.get(item, (None, ""))[0] == row.run_id:
            label = row.label if kind == "segment" else ""
            values[row.name, label, row.unit][item] = _Value(row.run_id, runs[item][1], row.value)
    return _Side(about, kind, runs, dict(values), seen - len(runs))


def _read_stimuli(session: Session, wanted: Wanted) -> dict[uuid.UUID, list[str]]:
    found: dict[uuid.UUID, list[str]] = defaultdict(list)
    query = select(Reconstruction.run_id, Reconstruction.stimulus_id).join(Run, Run.id == Reconstruction.run_id)
    for run_id, stimulus in session.execute(query.where(*wanted.hold()).distinct()):
        found[run_id].append(stimulus)
    return found


def _find_differences(one: _Side, other: _Side, limit: int) -> list[DifferenceAnswer]:
    import numpy as np

    from voxelight.neuro.evaluate.compare import adjust_p

    paired = []
    for kind in sorted(set(one.values) & set(other.values)):
        items = sorted(set(one.values[kind]) & set(other.values[kind]))
        if items:
            paired.append((kind, items, *_test(kind[0], one.values[kind], other.values[kind], items, one.kind)))
    tested = [test for *_, test, _ in paired if test is not None]
    q = dict(zip(map(id, tested), adjust_p(np.array([test.p for test in tested])).tolist(), strict=True))
    found = []
    for (metric, label, unit), items, test, drawn in paired:
        first, second = one.values[metric, label, unit], other.values[metric, label, unit]
        rows = [_answer_item(item, first[item], second[item], label) for item in items]
        mean = [sum(side[item].value for item in items) / len(items) for side in (first, second)]
        found.append(
            DifferenceAnswer(
                metric=metric,
                label=label,
                unit=unit,
                n=len(items),
                first=mean[0],
                second=mean[1],
                difference=mean[0] - mean[1],
                low=test.low if test else None,
                high=test.high if test else None,
                p=test.p if test else None,
                q=q[id(test)] if test else None,
                drawn=drawn,
                items=sorted(rows, key=lambda row: (-abs(row.difference), row.subject, row.item))[:limit],
            )
        )
    return found


def _test(
    metric: str, first: Mapping[Item, _Value], second: Mapping[Item, _Value], items: list[Item], kind: str
) -> tuple["PairedTest | None", Any]:
    """Test a difference; whole subjects are drawn where label maps come from several scans of each."""
    import numpy as np

    from voxelight.neuro.evaluate.compare import FEWEST_PICTURES, compare_paired

    subjects = np.array([subject for subject, _ in items])
    of_subjects = kind == "segment" and FEWEST_SUBJECTS <= len(np.unique(subjects)) < len(items)
    clusters = subjects if of_subjects else np.array([f"{subject}/{key}" for subject, key in items])
    drawn = "subject" if of_subjects else "item"
    if len(items) < FEWEST_PICTURES:
        return None, drawn
    one, other = (np.array([side[item].value for item in items]) for side in (first, second))
    return compare_paired(metric, one, other, clusters), drawn


def _answer_item(item: Item, first: _Value, second: _Value, label: str) -> ItemAnswer:
    return ItemAnswer(
        subject=item[0],
        item=first.name,
        label=label,
        first=first.value,
        second=second.value,
        difference=first.value - second.value,
        first_run=first.run,
        second_run=second.run,
    )


def _find_notes(one: _Side, other: _Side) -> Iterator[str]:
    if not set(one.values) & set(other.values):
        yield (
            "No score of single items on both sides. A job of decoding gets them from its evaluation: open the job and "
            "choose Evaluation."
        )
    for side in (one, other):
        if side.repeated:
            yield f"{side.about.name}: {side.repeated} older results of an item are left out; the newest counts."
    if any(len(side.about.recipes) > 1 for side in (one, other)):
        yield "One side holds several recipes, so that a difference is not one between two recipes."
    if one.kind == "segment" and one.values:
        yield "Volumes are no accuracy: a difference says that the two disagree, not which is right."
    yield "p takes items as independent of each other; the interval draws whole subjects where it says so."


def _find_notice(one: _Side, other: _Side) -> str:
    if one.kind == "segment":
        return NOTICE
    return RANDOM_NOTICE if one.about.random_weights or other.about.random_weights else DECODING_NOTICE


def _name(query: ResultQuery) -> str:
    return f"job {str(query.job)[:8]}" if query.job else f"model {query.model}" if query.model else "the query"
