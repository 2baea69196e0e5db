"""The labelling configuration of label_config, with a team's example pictures put in."""

from ml_backend.commands.command import run
from ml_backend.commands.label_configuration import main

if __name__ == "__main__":
    run(main)
