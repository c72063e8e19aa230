"""What a table's points share and are told of: runs, precision, counts of operations, and what is asked of them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.observations import Observations, positive, select

N, D = (x.ravel() for x in np.meshgrid([1e7, 3e7, 1e8], [1e9, 3e9, 9e9], indexing="ij"))
LOSS = 1.7 + 400 / N**0.34 + 1200 / D**0.37


def table(**columns) -> pl.DataFrame:
    """Nine points of three sizes; columns are added, changed, or left out where they are None."""
    whole = {"N": N, "D": D, "loss": LOSS, **columns}
    return pl.DataFrame({key: values for key, values in whole.items() if values is not None}, strict=False)


def of(columns: dict[str, str] | None = None, exact_flops: bool = False, **more) -> Observations:
    return Observations.of(table(**more), columns, "runs", exact_flops)


def said(points: Observations, words: str) -> int:
    return sum(words in warning for warning in points.warnings)


def test_points_and_what_they_come_from():
    points = of()
    assert len(points) == 9
    assert points.C.tolist() == pytest.approx((6 * N * D).tolist())
    assert points.columns == {"N": "N", "D": "D", "loss": "loss"}
    assert points.ranges() == {
        "N": [1e7, 1e8],
        "D": [1e9, 9e9],
        "C": [pytest.approx(6e16), pytest.approx(5.4e18)],
        "loss": [min(LOSS), max(LOSS)],
    }
    assert points.row.tolist() == list(range(1, 10))
    assert (points.unique, points.se, points.counted) == (None, None, None)
    assert points.warnings == ("no column says which points are annealed; all are taken as final",)


def test_fingerprints_are_of_the_numbers():
    assert of().fingerprint == of(note=list("abcdefghi")).fingerprint
    for other in (of(loss=LOSS + 1e-9), of(N=N * 2), of(D=D * 2), of(seed=range(9))):
        assert other.fingerprint != of().fingerprint


def test_a_quantity_that_there_is_not():
    with pytest.raises(ConfigError, match="M is none of the quantities N, D, loss"):
        of({"M": "N", "Z": "D"})


def test_rows_that_are_not_annealed_go():
    points = of(annealed=[True, False, True] * 3)
    assert points.row.tolist() == [1, 3, 4, 6, 7, 9]
    assert points.annealed
    assert points.warnings == ("3 rows are not annealed and left out",)
    none = of(annealed=[False] * 9)
    assert len(none) == 9
    assert not none.annealed
    assert Observations(N, D, LOSS, 6 * N * D, np.arange(9), {}).annealed
    assert none.warnings == ("no row is annealed: losses of unfinished runs lie above those of finished ones",)
    assert of(annealed=[True] * 9).warnings == ()


def test_tables_without_a_loss():
    with pytest.raises(DataError, match=r"^runs has no rows\.$"):
        Observations.of(table().clear(), name="runs")
    with pytest.raises(DataError, match="runs has no rows"):
        Observations.of(pl.DataFrame({"N": [None], "D": [None], "loss": [None]}), name="runs")
    with pytest.raises(DataError, match="runs, column 'loss': no row has a loss"):
        of(loss=["nan"] * 9)


def test_a_run_is_a_size_and_a_seed():
    assert of().cluster.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert of(seed=[1, 1, 2] * 3).cluster.tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]
    assert of(train_seed=["x", "y", "x"] * 3).cluster.tolist() == [0, 1, 0, 2, 3, 2, 4, 5, 4]
    assert of(seed_of_data=[1, 1, 2] * 3).cluster.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    budgets = of(D=None, flops=6 * N * D)
    assert budgets.columns["D"] == "C / 6N"
    assert budgets.D.tolist() == pytest.approx(D.tolist())
    assert budgets.cluster.tolist() == list(range(9))


def test_some_of_the_points():
    points = of(seed=[1, 1, 2] * 3, unique_tokens=D / 2, loss_se=[0.01] * 9)
    for keep in (np.array([0, 2, 5]), np.isin(np.arange(9), [0, 2, 5])):
        some = points.take(keep)
        assert some.row.tolist() == [1, 3, 6]
        assert some.cluster.tolist() == [0, 1, 2]
        for key in ("N", "D", "C", "loss", "unique", "se"):
            assert getattr(some, key).tolist() == getattr(points, key)[[0, 2, 5]].tolist()
    assert some.counted is None
    assert some.columns == points.columns


FACTOR = np.repeat([2.0, 1.5, 1.2], 3)  # what embeddings add to operations


def test_exact_counts_of_operations_give_n():
    points = of(flops=6 * N * D * FACTOR)
    assert pytest.approx(N * FACTOR) == points.N
    assert points.counted.tolist() == N.tolist()
    assert pytest.approx(6 * points.N * points.D) == points.C
    assert points.columns == {"N": "n_effective", "D": "D", "loss": "loss", "C": "flops", "counted": "N"}
    assert points.warnings[-1] == "N is C / 6D, 1.2 to 2 times 'N': column 'flops' counts operations exactly"
    assert points.cluster.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    back = points.recounted()
    assert back.N.tolist() == N.tolist()
    assert back.counted is None
    assert of().recounted().N.tolist() == N.tolist()


def test_operations_that_are_a_mistake_are_refused_unless_they_are_exact():
    odd = 6 * N * D * np.array([1.0, 1.3, 0.8] * 3)
    with pytest.raises(DataError, match="runs, column 'flops': 6 of 9 rows differ from 6·N·D"):
        of(flops=odd)
    taken = of(flops=odd, exact_flops=True)
    assert taken.C.tolist() == odd.tolist()
    assert taken.N.tolist() == N.tolist()
    same = of(flops=6 * N * D * 2, exact_flops=True)  # one factor for all sizes
    assert pytest.approx(2 * N) == same.N
    with pytest.raises(DataError, match="9 of 9 rows differ"):
        of(flops=6 * N * D * 2)
    near = of(flops=6 * N * D * 1.009)
    assert near.counted is None


def test_tables_of_our_own_carry_both_counts():
    own = {"N": None, "D": None, "n_params_non_embedding": N, "n_tokens": D, "flops_6nd": 6 * N * D}
    assert pytest.approx(2 * N) == of(**own, flops=6 * N * D * 2).N
    odd = 6 * N * D * np.array([1.0, 1.3, 0.8] * 3)
    assert of(**own, flops=odd).C.tolist() == odd.tolist()


def test_n_from_operations_and_data():
    points = of(N=None, flops=6 * N * D)
    assert pytest.approx(N) == points.N
    assert points.columns["N"] == "C / 6D"
    assert said(points, "N is computed as C / 6D")


def test_the_best_of_a_sweep_is_chosen_for_each_amount_of_unique_data():
    twice = {"N": np.tile(N, 2), "D": np.tile(D, 2), "loss": np.r_[LOSS, LOSS - 0.1], "lr": np.repeat([1, 2], 9)}
    assert len(of(**twice)) == 9
    assert len(of(**twice, unique_tokens=np.repeat([1e8, 2e8], 9))) == 18
    steps = {"D": None, "steps": D / 1e6, "batch_size": [512] * 9, "seq_len": [2048] * 9}
    assert len(of(**steps)) == 9


def test_of_batches_that_give_one_amount_the_best_counts():
    halves = {"steps": np.r_[D / 2**20, D / 2**19], "batch_size": np.repeat([512, 256], 9), "seq_len": [2048] * 18}
    points = of(N=np.tile(N, 2), D=None, loss=np.r_[LOSS, LOSS - 0.1], **halves)
    assert points.row.tolist() == list(range(10, 19))
    assert said(points, "batch_size varies between rows of one N and D")


def test_small_numbers_may_be_millions():
    points = of(N=N / 1e6, D=D / 1e9)
    assert said(points, "the largest N is 100: if column 'N' counts millions or billions, say so: --columns 'N=N (M)'")
    assert said(points, "the largest D is 9: if column 'D' counts")
    assert not said(of({"N": "N (k)"}, N=[9, 9, 9, 5, 5, 5, 1, 1, 1]), "the largest N")
    for largest, told in ((9_999, 1), (10_000, 0)):
        assert said(of(N=np.repeat([10, 100, largest], 3)), "the largest N") == told


def test_twins_are_told_where_losses_are_fine():
    twice = {"N": [*N, N[2]], "D": [*D, D[2]], "run": list("abcdefghij")}
    points = of(**twice, loss=[*LOSS, LOSS[2]])
    assert said(points, "1 of 10 rows have the N, D and loss of another, and differ elsewhere (row 10 is the first)")
    assert len(points) == 10
    coarse = np.round(LOSS, 2)
    assert not said(of(**twice, loss=[*coarse, coarse[2]]), "of another")
    assert not said(of(**twice, loss=[*LOSS, LOSS[2] + 1e-6]), "of another")


def test_precisions_that_differ_are_told():
    points = of(precision=["bf16", "fp32", "bf16", "bf16", "tf32", "bf16", "bf16", "fp32", "bf16"])
    assert points.warnings[-1] == (
        "rows of different precision share this fit: fp32, tf32 in row 2, 5, 8, bf16 in the others"
    )
    assert not said(of(precision=["bf16"] * 9), "precision")
    assert said(of(precision=["bf16"] * 8 + [None]), "None in row 9, bf16 in the others")
    many = {"N": [*N] * 3, "D": [*D] * 3, "loss": [*LOSS, *(LOSS + 0.01), *(LOSS + 0.02)]}
    other = of(**many, precision=["bf16"] * 16 + ["fp32"] * 11)
    assert "row 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, …, bf16" in other.warnings[-1]
    ten = of(**many, precision=["bf16"] * 17 + ["fp32"] * 10)
    assert "26, 27, bf16" in ten.warnings[-1]


def test_rows_of_one_value():
    whole = table(arm=list("abcabcabc"), size=[1, 2, 3] * 3)
    assert select(whole, {"arm": "b"})["N"].to_list() == N[1::3].tolist()
    assert len(select(whole, {"arm": "b", "size": "2"})) == 3
    assert len(select(whole, {})) == 9
    with pytest.raises(ConfigError, match="runs has no column 'x'; it has N, D, loss, arm, size"):
        select(whole, {"x": "b"}, "runs")
    with pytest.raises(ConfigError, match="runs, column 'arm': no row has 'd'; there are a, b, c"):
        select(whole, {"arm": "d"}, "runs")
    many = pl.DataFrame({"arm": [f"{i:02}" for i in range(12)]})
    with pytest.raises(ConfigError, match="there are 00, 01, 02, 03, 04, 05, 06, 07, 08, 09\\."):
        select(many, {"arm": "x"})


def test_positive_numbers():
    row = np.array([4, 6, 9])
    assert positive(pl.DataFrame({"x": ["1", "2.5", "3e2"]}), "x", row, "runs").tolist() == [1, 2.5, 300]
    for cell, shown in (("0", "'0'"), ("-1", "'-1'"), ("word", "'word'"), (None, "None"), ("inf", "'inf'")):
        with pytest.raises(DataError, match=f"runs, row 6, column 'x': {shown} is no positive number"):
            positive(pl.DataFrame({"x": ["1", cell, "0"]}), "x", row, "runs")
