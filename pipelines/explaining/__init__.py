"""Where a head looked: its attention maps laid over the frames that the backbone saw."""
