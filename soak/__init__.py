"""Hours of work and harm against a running installation, with laws that must hold at the end."""
