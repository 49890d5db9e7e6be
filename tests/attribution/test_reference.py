"""captum's conductance of the model's own neurons, beside ours."""

import numpy as np
import pytest

from labutils.attribution.gradients import neuron_conductance
from labutils.attribution.passages import text_passages
from labutils.attribution.reference import captum_conductance


def test_captum_gives_the_conductance_that_is_found_with_refinement(tiny_llama, tokenizer):
    (passage,) = text_passages(tiny_llama, tokenizer, ["w1 w5 w9 w2 w30 w7"])
    theirs = captum_conductance(tiny_llama, tokenizer, passage, block=1, n_steps=400)
    ours = neuron_conductance(tiny_llama, tokenizer, [passage], tolerance=1e-3)
    mine = ours[ours["block"] == 1]["score"].to_numpy()
    np.testing.assert_allclose(mine, theirs["score"], atol=0.02 * theirs["score"].abs().max())
    with pytest.raises(LookupError, match="no block 3"):
        captum_conductance(tiny_llama, tokenizer, passage, block=3)
