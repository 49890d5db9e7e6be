"""What a pruning will take, before anything runs: `forecast`, and what `prune` says of its cost."""

from labutils.forecasting.request import forecast
from labutils.forecasting.stages import Forecast

__all__ = ["Forecast", "forecast"]
