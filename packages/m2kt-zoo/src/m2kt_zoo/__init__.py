"""Tiny models, and the recipes that build them (`m2kt_zoo.recipes`)."""
