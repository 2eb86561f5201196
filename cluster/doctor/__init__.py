"""What keeps a job from running, found before it is run: on this machine, in a store, on a cluster, in its file."""
