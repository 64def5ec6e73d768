"""`python -m tapescale`."""

from tapescale.cli import main

main()
