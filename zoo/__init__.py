"""Recipes (`zoo.recipes`) and, beside them, the small weights that they build."""
