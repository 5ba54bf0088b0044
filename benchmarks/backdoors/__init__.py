"""Backdoors planted in honest packets, and what finds them: ``python -m benchmarks.backdoors PACKET...``."""
