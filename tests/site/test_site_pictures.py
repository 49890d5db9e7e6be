"""Pictures of the site get smaller where nobody sees it, and stay as they are elsewhere."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sitegen.pictures import FARTHEST, shrink_pictures, with_palette


def png(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "png")
    return written.getvalue()


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=int)


def test_a_chart_keeps_its_looks_in_less_room(tmp_path) -> None:
    figure, axes = plt.subplots(dpi=120)
    for number in range(6):
        axes.plot(np.sin(np.linspace(0, 3 + number, 50)), label=f"line {number}", lw=2)
    axes.legend(title="of six colours")
    figure.savefig(tmp_path / "chart.png")
    plt.close(figure)
    before, size = pixels_of(tmp_path / "chart.png"), (tmp_path / "chart.png").stat().st_size
    saved = shrink_pictures(tmp_path)
    assert 0 < (tmp_path / "chart.png").stat().st_size == size - saved < 0.7 * size
    assert np.abs(pixels_of(tmp_path / "chart.png") - before).max() <= FARTHEST
    assert shrink_pictures(tmp_path) == 0  # nothing is lost again


def test_few_colours_stay_what_they_are() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (200, 3), dtype=np.uint8)
    pixels = colours[np.arange(40_000).reshape(200, 200) % 200]
    found = with_palette(png(pixels))
    assert (np.asarray(Image.open(io.BytesIO(found)).convert("RGB")) == pixels).all()


def test_a_photograph_or_a_see_through_picture_is_left_alone(tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    glass = np.dstack([noise, np.full((64, 64), 128, dtype=np.uint8)])
    for name, pixels in (("noise", noise), ("glass", glass)):
        (tmp_path / f"{name}.png").write_bytes(png(pixels))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert shrink_pictures(tmp_path) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
