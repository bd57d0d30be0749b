"""One process at work: decoders, batches, the network, the store."""
