"""A comparison at several amounts of calibration text."""

import labutils as lab
from labutils.sweeps.calibration_sizes import calibration_size_sweep, gain_by_calibration_size, widest_input
from labutils.sweeps.figures import gain_by_size

SIZES = lab.sweeps.SweepSizes(n_items=6, seq_len=32)
ARMS = ["ria/uniform", "sparsegpt/uniform"]


def test_gains_are_those_of_separate_sweeps():
    loaded = lab.load_model("lab-llama")
    options = {"loaded": loaded, "n_draws": 2}
    rows = calibration_size_sweep(
        "lab-llama", ["lab:review"], arms=ARMS, sparsity=0.5, n_sequences=[16, 4], sizes=SIZES, **options
    )
    table = gain_by_calibration_size(rows, *ARMS)
    assert table["n_calibration"].tolist() == [4, 16]
    assert table["tokens_per_input"].tolist() == [4 * 32 / widest_input(loaded[0]), 16 * 32 / widest_input(loaded[0])]
    alone = lab.sweep(
        "lab-llama", ["lab:review"], arms=ARMS, sparsities=[0.5], n_draws=2,
        sizes=lab.sweeps.SweepSizes(n_calibration=4, n_items=6, seq_len=32),
    )  # fmt: skip
    means = alone.groupby("arm")["loss"].mean()
    assert abs(table["estimate"][0] - (means["ria/uniform"] - means["sparsegpt/uniform"])) < 1e-12
    figure = gain_by_size(table, better="sparsegpt", worse="ria", unit="nats", margin=0.02, title="By text")
    assert len(figure.axes[0].containers) == 1
