"""The local web page: classes from dropped clips, and a query with its label, scores and attention."""
