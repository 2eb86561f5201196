"""On the head node: divide a job into shards, hand them to workers, commit what they made."""
