"""``rlnas compare``: several ways of searching, many seeds, one budget; does one of them earn its keep?"""

from rlnas.compare.command import USAGE, run

__all__ = ["USAGE", "run"]
