"""What the server that forks the processes imports, so that none of them has to."""

from soak.crash.processes import warm

warm()
