"""``python -m m2kt.cli`` is ``m2kt``."""

from m2kt.cli import main

main()
