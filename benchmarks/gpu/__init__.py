"""What `make bench-gpu` measures: models of true size with random weights, on one GPU."""
