"""What `mastaf-extract` does instead of extracting: `--plan` and `--recheck`."""
