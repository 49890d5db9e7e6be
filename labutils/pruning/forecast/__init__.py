"""What a pruning will take, before anything runs: `forecast`, and what `prune` says of its cost."""

from labutils.pruning.forecast.request import Forecast, forecast

__all__ = ["Forecast", "forecast"]
