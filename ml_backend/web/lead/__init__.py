"""The lead's page: the state of each project, and the changes that a lead can make."""
