"""Where shards are done: here, in a process for each device, on a cluster."""
