"""What scores mean: intervals, paired differences, tables."""
