"""`python -m voxelight.app.cli`, where no console command is installed."""

from voxelight.app.cli import main

main(prog_name="voxelight")
