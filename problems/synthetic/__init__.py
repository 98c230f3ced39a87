"""Small drawn problems with written solutions: six families, four levels, disjoint splits."""

from .generator import FAMILIES, Split, generate

__all__ = ["FAMILIES", "Split", "generate"]
