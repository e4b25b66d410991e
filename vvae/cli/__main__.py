"""`python -m vvae.cli`: the command line without an installed script."""

from vvae.cli import main

main()
