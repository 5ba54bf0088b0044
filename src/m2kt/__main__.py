"""``python -m m2kt`` is ``m2kt``."""

from m2kt.cli import main

main()
