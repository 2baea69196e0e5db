"""The lead's page: what is going on in each project, and what may be done about it."""
