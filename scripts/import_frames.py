"""Import frames of videos, stills and DICOM files into a Label Studio project."""

from ml_backend.commands.command import run
from ml_backend.commands.import_frames import main

if __name__ == "__main__":
    run(main)
