"""Hostile packets that every reader must refuse. ``python -m attacks FOLDER`` writes them all; see README.md."""
