"""The streamed ridge beside scikit-learn and beside the ridge in memory."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict

from voxelight.models.decoders.ridge import RidgeConfig
from voxelight.models.decoders.ridge_stream import StreamOptions, TargetTable, fit_streamed
from voxelight.models.errors import BadInput

SHAPES = {"fewer trials than voxels": (60, 130), "more trials than voxels": (120, 25)}
ALPHAS = (300.0, 3.0, 30.0)
EXACT = StreamOptions(precision="float64", block=7)


def make_problem(trials, voxels, targets=23, per_stimulus=1, seed=0):
    random = np.random.default_rng(seed)
    betas = random.normal(loc=1.5, size=(trials, voxels))
    rows = random.permutation(np.repeat(np.arange(trials // per_stimulus), per_stimulus))
    weights = random.normal(size=(voxels, targets))
    noise = np.sqrt(voxels) * random.normal(size=(rows.max() + 1, targets))
    seen = np.stack([betas[rows == row].mean(0) for row in range(rows.max() + 1)])
    return betas, seen @ weights + noise + 40, rows, random.normal(loc=1.5, size=(11, voxels))


def group_folds(rows):
    return list(GroupKFold(3).split(rows, groups=rows))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("per_target", [False, True])
def test_trials_that_share_a_target_give_what_scikit_learn_makes_of_all_trials(shape, per_target):
    betas, table, rows, new = make_problem(*shape, per_stimulus=3)
    folds, out = group_folds(rows), np.zeros((23, shape[1]))
    config = RidgeConfig(alphas=ALPHAS, alpha_per_target=per_target)
    got = fit_streamed(betas, TargetTable(table, rows), config, out, folds, options=EXACT)
    predicted = [cross_val_predict(Ridge(alpha=alpha), betas, table[rows], cv=folds) for alpha in ALPHAS]
    errors = np.stack([((held_out - table[rows]) ** 2).sum(0) for held_out in predicted])
    np.testing.assert_allclose(got.errors, errors, rtol=1e-8)
    best = errors.argmin(0) if per_target else np.full(23, errors.sum(1).argmin())
    for column in range(23):
        oracle = Ridge(alpha=ALPHAS[best[column]]).fit(betas, table[rows][:, column])
        np.testing.assert_allclose(got.decoder(new)[:, column], oracle.predict(new), rtol=1e-8)
    assert got.decoder.coefficients.base is out


def test_one_pass_or_many_measure_the_same():
    betas, table, rows, _ = make_problem(60, 40)
    config, folds = RidgeConfig(alphas=ALPHAS), group_folds(rows)
    passes = []
    for kept in (1e-9, 4.0):
        seen = []
        options = EXACT.model_copy(update={"kept_gib": kept})
        got = fit_streamed(
            betas,
            TargetTable(table[rows]),
            config,
            np.zeros((23, 40)),
            folds,
            options=options,
            on_block=lambda done, total, seen=seen: seen.append((done, total)),
        )
        passes.append((len(seen), got.errors))
    assert [count for count, _ in passes] == [(9 + 1) * 4, (1 + 1) * 4]  # three folds of three alphas, and the fit
    np.testing.assert_allclose(passes[0][1], passes[1][1], rtol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_half_precision_on_the_disk_keeps_a_thousandth_of_a_prediction(tmp_path, precision):
    betas, table, rows, new = make_problem(90, 60, targets=200)
    table = (table * np.logspace(-7, 2, 200)).astype(np.float32)  # most would be nothing as plain half precision
    np.save(tmp_path / "targets.npy", table[rows])
    targets = np.load(tmp_path / "targets.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "coefficients.npy", "w+", np.float16, (200, 60))
    config = RidgeConfig(alphas=(50.0,))
    options = StreamOptions(precision=precision, block=64)
    got = fit_streamed(betas.astype(np.float32), TargetTable(targets), config, out, options=options)
    exact = Ridge(alpha=50.0).fit(betas, table[rows]).predict(new)
    spread = exact.std(0)
    assert (np.abs(got.decoder(new) - exact) / spread).max() < 5e-3
    assert got.float64_error < 1e-5


def test_rescaling_is_that_of_held_out_training_rows_and_serves_a_single_scan():
    betas, table, rows, new = make_problem(90, 200)
    folds, targets = group_folds(rows), table[rows]
    config = RidgeConfig(alphas=(3000.0,), rescale=True)
    held_out = cross_val_predict(Ridge(alpha=3000.0), betas, targets, cv=folds)
    plain = Ridge(alpha=3000.0).fit(betas, targets).predict(new)
    expected = (plain - held_out.mean(0)) / held_out.std(0) * targets.std(0) + targets.mean(0)
    streamed = fit_streamed(betas, TargetTable(targets), config, np.zeros((23, 200)), folds, options=EXACT).decoder
    kept = config.fit(betas, targets, folds)
    for decoder in (streamed, kept):
        np.testing.assert_allclose(decoder(new), expected, rtol=1e-8)
        np.testing.assert_allclose(decoder(new[:1]), expected[:1], rtol=1e-8)  # whatever else is decoded with it
    assert (plain.std(0) < 0.8 * expected.std(0)).all()


def test_a_constant_target_is_not_blown_up():
    betas, table, rows, new = make_problem(60, 40)
    table[:, 3] = 7.0
    config = RidgeConfig(alphas=(3.0,), rescale=True)
    folds = group_folds(rows)
    streamed = fit_streamed(betas, TargetTable(table[rows]), config, np.zeros((23, 40), np.float32), folds).decoder
    for decoder in (config.fit(betas, table[rows], folds), streamed):
        np.testing.assert_allclose(decoder(new)[:, 3], 7.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"betas": np.ones((59, 40))}, "a target for each trial"),
        ({"out": np.zeros((23, 39))}, "room"),
        ({"rows": np.full(60, 60)}, "counted from 0"),
        ({"table": np.full((60, 23), np.inf)}, "not finite"),
        ({"config": RidgeConfig(alphas=(1.0, 2.0))}, "folds"),
        ({"config": RidgeConfig(alphas=(1.0,), rescale=True)}, "folds"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    betas, table, rows, _ = make_problem(60, 40)
    given = {"betas": betas, "table": table, "rows": rows, "out": np.zeros((23, 40))} | change
    config = change.get("config", RidgeConfig(alphas=(1.0,)))
    with pytest.raises(BadInput, match=words):
        fit_streamed(given["betas"], TargetTable(given["table"], given["rows"]), config, given["out"])


def test_too_low_a_precision_is_noticed():
    random = np.random.default_rng(0)
    betas = random.normal(size=(60, 10))
    outside = np.linalg.qr(np.column_stack([np.ones(60), betas]), mode="complete").Q[:, 11:16]
    targets = 1e7 * outside + betas @ random.normal(size=(10, 5))  # almost all of it is nothing that betas tell
    config, out = RidgeConfig(alphas=(1e-3,)), np.zeros((5, 10))
    with pytest.raises(BadInput, match="precision"):
        fit_streamed(betas, TargetTable(targets), config, out)
    assert fit_streamed(betas, TargetTable(targets), config, out, options=EXACT).float64_error < 1e-9
