"""What `make bench` runs: speed and memory, each figure beside a named alternative measured in the same run."""
