"""Kubernetes: what it is given so that a job runs there, once or at certain times."""
