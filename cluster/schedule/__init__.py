"""Schedules: when a job is run again, what each of its runs is called, and who reminds us of the time."""
