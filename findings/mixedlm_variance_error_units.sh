#!/usr/bin/env bash
# The standard error of a variance in statsmodels' MixedLM changes when the outcome is given in other units.
#
# Versions: statsmodels 0.15.0, with numpy 2.4.6, scipy 1.17.1, pandas 3.1.1.
# Expected: the module's documentation says that users see one parameterization, in which the covariance of the
#   outcome is scale * I + Z * cov_re * Z', and that `bse_re` holds the standard errors of those variance parameters;
#   `summary()` prints the two side by side. Accuracy in per cent instead of a fraction makes every variance 100^2
#   times as large, so also its standard error, and their ratio stays. For balanced groups there is a closed form to
#   compare with.
# Seen: the variance grows by 100^2, its standard error only by 100. It is too small by about the square root of the
#   residual variance, or too large where that is below 1, and right only where it is near 1. For the same runs the
#   ratio of "g Var" to its error is 0.09 as fractions and 8.7 in per cent. (The documentation warns of something
#   else, that these errors describe a skewed distribution.) The warning of an estimate on the boundary depends on the
#   unit too: as fractions it comes for a variance that is as large as that of the residuals.
# Hurts: whoever judges from the summary whether benchmark items, seeds or models differ at all after pruning: on
#   accuracies as fractions a clear variance looks like none, on outcomes with large residuals a doubtful one looks
#   clear.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

GROUPS, SIZE = 60, 6
generator = np.random.default_rng(2)
group = np.repeat(np.arange(GROUPS), SIZE)
accuracy = pd.Series(0.6 + 0.02 * (generator.normal(size=GROUPS)[group] + generator.normal(size=GROUPS * SIZE)))

# One-way layout with equal groups: REML and its large-sample error follow from two mean squares.
means = accuracy.groupby(group).transform("mean")
between = SIZE * accuracy.groupby(group).mean().var()
within = ((accuracy - means) ** 2).sum() / (GROUPS * (SIZE - 1))
variance = (between - within) / SIZE
error = np.sqrt(2 / SIZE**2 * (between**2 / (GROUPS - 1) + within**2 / (GROUPS * (SIZE - 1))))
print(f"closed form, in any unit: variance / error = {variance / error:.2f}")

ratios, errors, boundary = {}, {}, {}
for unit, factor in (("fraction", 1), ("unit with residual variance 1", 1 / np.sqrt(within)), ("per cent", 100)):
    data = pd.DataFrame({"y": accuracy * factor, "g": group})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = smf.mixedlm("y ~ 1", data, groups="g").fit(method="powell")
    boundary[unit] = any("boundary" in str(warning.message) for warning in caught)
    estimate, given = fit.cov_re.iloc[0, 0], fit.bse_re.iloc[0]
    assert fit.converged and abs(estimate / (variance * factor**2) - 1) < 0.01, "the estimate itself differs"
    ratios[unit], errors[unit] = estimate / given, given
    print(f"{unit}: variance {estimate:.4g} (as in closed form), error {given:.4g} "
          f"(closed form {error * factor**2:.4g}), ratio {estimate / given:.2f}; "
          f"ratio of the intercept {fit.fe_params.iloc[0] / fit.bse_fe.iloc[0]:.1f}")
    print("   summary row:", fit.summary().tables[1].loc["g Var"].iloc[:2].tolist(),
          "- with a warning of the boundary" if boundary[unit] else "")

growth = errors["per cent"] / errors["fraction"]
print(f"100 times the outcome: the error of the variance grows {growth:.1f}-fold instead of 10000-fold")
surprising = (abs(growth - 100) < 1 and ratios["per cent"] > 20 * ratios["fraction"]
              and boundary["fraction"] and not boundary["per cent"])
print("as recorded" if surprising else "CHANGED: error or warning no longer depend on the unit as recorded")
sys.exit(0 if surprising else 1)
PYTHON
