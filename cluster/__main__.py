"""`python -m cluster` is the console script."""

from cluster.cli.app import main

main()
