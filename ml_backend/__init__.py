"""A Label Studio ML backend that learns while a team annotates lung ultrasound (arXiv:2009.05436)."""

__version__ = "0.2.0.dev0"
