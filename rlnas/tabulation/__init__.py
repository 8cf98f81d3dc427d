"""A whole space, or a sample of it, evaluated into a table of architectures."""

from rlnas.tabulation.assembly import Assembled, assemble
from rlnas.tabulation.members import members, stratified_sample
from rlnas.tabulation.trainings import Standing, Tabulation, Training

__all__ = ["Assembled", "Standing", "Tabulation", "Training", "assemble", "members", "stratified_sample"]
