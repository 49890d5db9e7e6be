"""Heat maps: everything from data escaped, one scale for both models, values that are those of the neurons."""

import copy
import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
import torch
from planted import planted_llama
from test_comparison import cut

from labutils.attribution.activations import measure_words
from labutils.attribution.heatmaps import LINE_LENGTH, Piece, WordHeatmap, _broken, word_heatmap

EVIL = '<script>alert("x")</script> & <img src=x onerror=y> $x_1$'


class Tags(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_text_from_data_is_escaped(tiny_llama, tokenizer):
    heatmap = word_heatmap(tiny_llama, copy.deepcopy(tiny_llama), tokenizer, [EVIL], [(0, 1)], title=EVIL)
    page = Tags(heatmap._repr_html_())
    assert set(page.tags) <= {"div", "span", "strong"}
    assert page.text.count(EVIL) == 3  # the title, the dense line and the pruned one
    picture = BytesIO()
    heatmap.figure().savefig(picture)  # dollar signs are drawn as they are
    assert picture.getvalue().startswith(b"\x89PNG")


def test_values_are_the_neurons_means_and_the_scale_is_shared(tokenizer):
    model = planted_llama(tokenizer)
    pruned = cut(model, 0, 3)
    texts = ["w1 w5, w11!", "w5"]
    heatmap = word_heatmap(
        model,
        pruned,
        tokenizer,
        [text.replace(",", " ,").replace("!", " !") for text in texts],
        [(0, 3), (1, 0)],
        title="w5",
    )
    single = measure_words(model, tokenizer, ["w5"], ["w5"])
    fires = float(single.means[0][0, 3])
    (first, second) = heatmap.texts
    assert [piece.text for piece in first] == ["w1", " ", "w5", " , ", "w11", " !"]
    values = {piece.text: piece for piece in first}
    assert values["w5"].dense == pytest.approx(fires, rel=1e-4)  # both neurons fire
    assert values["w5"].pruned == pytest.approx(fires / 2, rel=1e-4)  # one of them was cut
    assert values[" , "].dense is None and abs(values["w1"].dense) < 1e-6
    assert second[0].dense == pytest.approx(fires, rel=1e-4)
    assert heatmap.limit == pytest.approx(fires, rel=1e-4)
    page = heatmap._repr_html_()
    assert page.index("dense: ") < page.index("pruned: ")
    colours = dict(re.findall(r'background:(#\w+);[^>]*title="dense: ([^"]+)"', page))
    assert len(colours) >= 1


def test_the_picture_has_a_line_for_each_model_and_breaks_long_texts(tokenizer):
    pieces = [Piece("w" * 30, 1.0, -1.0), Piece(" ", None, None)] * 5
    heatmap = WordHeatmap("title", [pieces, [Piece("x" * 200, 0.0, 0.5)]], 1.0)
    lines = _broken(pieces)
    assert [sum(len(piece.text) for piece in line) for line in lines] == [62, 62, 31]
    assert sum(len(piece.text) for line in _broken(heatmap.texts[1]) for piece in line) == LINE_LENGTH
    axis = heatmap.figure().axes[0]
    labels = [text.get_text() for text in axis.texts]
    assert labels.count("dense") == labels.count("pruned") == 4 and "title" in axis.get_title(loc="left")
    assert len(axis.patches) == 2 * 6


def test_what_cannot_be_shown_is_refused(tiny_llama, tokenizer):
    other = copy.deepcopy(tiny_llama)
    with pytest.raises(ValueError, match="at least one text"):
        word_heatmap(tiny_llama, other, tokenizer, [], [(0, 1)], title="")
    with pytest.raises(ValueError, match="'…' holds no word"):
        word_heatmap(tiny_llama, other, tokenizer, ["…"], [(0, 1)], title="")
    with pytest.raises(LookupError, match="no neuron 99"):
        word_heatmap(tiny_llama, other, tokenizer, ["w1"], [(0, 99)], title="")
    long = word_heatmap(tiny_llama, other, tokenizer, ["w1 " * 100], [(0, 1)], title="")
    assert sum(piece.dense is not None for piece in long.texts[0]) == 63
    with torch.no_grad():
        for layer in other.model.layers:
            layer.mlp.up_proj.weight.zero_()
    assert word_heatmap(other, copy.deepcopy(other), tokenizer, ["w1"], [(0, 1)], title="").limit == 1.0
