"""Recipes (`m2kt_zoo.recipes`) and, beside them, the small weights that they build."""
