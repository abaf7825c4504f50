"""Noise ceilings: NSD's table, and what repeats of a simulated subject show."""

import numpy as np
import pytest
from scipy.stats import kstest

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.simulation.ceilings import (
    REGIONS,
    count_voxels,
    draw_ncsnr,
    find_ncsnr,
    find_nsd_subject,
    measure_ncsnr,
    noise_ceiling,
    read_nsd,
)


def test_the_table_has_the_sizes_of_nsd():
    subjects = read_nsd().subjects
    assert [subject.sessions for subject in subjects] == [40, 40, 32, 30, 40, 32, 40, 30]
    totals = [sum(subject.voxels.values()) for subject in subjects]
    assert totals == [15724, 14278, 15226, 13153, 13039, 17907, 12682, 14386]
    for subject in subjects:
        assert tuple(subject.voxels) == tuple(subject.ceilings) == REGIONS
    assert find_nsd_subject(9) is find_nsd_subject(1)


@pytest.mark.parametrize("number", range(1, 9))
def test_draws_have_the_medians_of_the_table(number):
    subject = find_nsd_subject(number)
    ncsnr = draw_ncsnr(subject, subject.voxels, np.random.default_rng(number))
    ceilings = noise_ceiling(ncsnr)
    assert np.median(ceilings) == pytest.approx(subject.nsdgeneral, abs=1)
    first = 0
    for region, count in subject.voxels.items():
        median = np.median(ceilings[first : first + count])
        assert median == pytest.approx(subject.ceilings[region], abs=3), region
        first += count
    assert ncsnr.min() == 0
    assert ncsnr.max() < 2


def test_ceiling_and_ncsnr_are_inverse():
    assert noise_ceiling(np.array(find_ncsnr(36.2)), 3) == pytest.approx(36.2)
    assert noise_ceiling(np.array([1.0]), 1).tolist() == [50]
    assert noise_ceiling(np.array([0.361]), 3) == pytest.approx([28.1], abs=0.05)  # subj01 as reported


def test_voxels_are_dealt_by_share_and_no_region_is_empty():
    for total in (5, 6, 100, 1999):
        counts = count_voxels(find_nsd_subject(3), total)
        assert sum(counts.values()) == total
        assert min(counts.values()) >= 1
    assert counts["higher"] / 1999 == pytest.approx(11420 / 15226, abs=0.002)
    with pytest.raises(BadInput, match="4 voxels"):
        count_voxels(find_nsd_subject(1), 4)


def test_measured_ncsnr_is_that_of_a_textbook_signal():
    random = np.random.default_rng(0)
    true = np.linspace(0, 1.5, 40)
    signal = random.normal(size=(1500, 40)) * true
    shown = np.concatenate([random.permutation(1500) for _ in range(3)])
    values = signal[shown] + random.normal(size=(4500, 40))
    values = values * random.uniform(0.5, 2, 40) + random.normal(size=40)
    sessions = np.repeat(["a", "b", "c"], 1500)
    measured = measure_ncsnr(Betas(values.astype(np.float32), shown.astype(str), "01", "V1", {"session": sessions}))
    assert measured[true > 0.3] == pytest.approx(true[true > 0.3], rel=0.15)
    assert measured[0] < 0.2
    stacked = np.stack([values[np.argsort(shown, kind="stable")[repeat::3]] for repeat in range(3)])
    stacked = stacked / values.std(0)
    noise = stacked.var(0, ddof=1).mean(0)
    assert measured == pytest.approx(np.sqrt(np.maximum(1 - noise, 0) / noise), abs=0.02)


def test_no_repeats_no_ceiling():
    betas = Betas(np.ones((2, 1), np.float32), np.array(["a", "b"]), "01", "V1", {"session": np.array(["1", "1"])})
    with pytest.raises(BadInput, match="0 repeated trials"):
        measure_ncsnr(betas)
    with pytest.raises(BadInput, match="labels none"):
        measure_ncsnr(Betas(np.ones((2, 1), np.float32), np.array(["a", "a"]), "01", "V1"))


def test_repeats_of_a_subject_show_the_distribution_that_was_set(photographs, simulated):
    """With everything on: correlated noise, drift, overlap, gain and offsets."""
    subject, betas = simulated
    measured = measure_ncsnr(betas)
    for region in REGIONS:
        inside = subject.regions == region
        wanted = np.quantile(subject.ncsnr[inside], [0.25, 0.5, 0.75])
        assert np.quantile(measured[inside], [0.25, 0.5, 0.75]) == pytest.approx(wanted, abs=0.06), region
        assert np.corrcoef(measured[inside], subject.ncsnr[inside])[0, 1] > 0.9
    strong = subject.ncsnr > 0.3
    assert np.median(measured[strong] / subject.ncsnr[strong]) == pytest.approx(1, abs=0.05)
    table = find_nsd_subject(subject.number)
    assert np.median(noise_ceiling(measured)) == pytest.approx(table.nsdgeneral, abs=3)
    higher = subject.regions == "higher"
    median, spread = find_ncsnr(table.ceilings["higher"]), read_nsd().spread["higher"]
    above = measured[higher & (measured > 0.15)]
    cut = np.random.default_rng(0).normal(median, spread * median, 100_000)
    assert kstest(above, cut[cut > 0.15]).statistic < 0.08
