"""``python -m kleiber``."""

from kleiber.cli import main

main()
