"""Write clips of lung-ultrasound phantoms, and the table of their labels, for people without data, tests and scale."""

from ml_backend.commands.command import run
from ml_backend.commands.make_phantom import main

if __name__ == "__main__":
    run(main)
