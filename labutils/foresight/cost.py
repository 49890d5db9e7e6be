"""Seconds, bytes and counts of some work, added up."""

from dataclasses import dataclass


@dataclass
class Cost:
    """What some work takes; `peak` is beside what else is in memory, `disk` in the run's folder, `steps` train."""

    seconds: float = 0.0
    prunings: int = 0
    evaluations: int = 0
    peak: int = 0
    disk: int = 0
    steps: int = 0

    def add(self, other: "Cost") -> None:
        """Do it after what was done so far."""
        self.seconds += other.seconds
        self.prunings += other.prunings
        self.evaluations += other.evaluations
        self.disk += other.disk
        self.steps += other.steps
        self.peak = max(self.peak, other.peak)
