"""`mastaf report`: one HTML page of the results below a folder, from records and predictions alone."""
