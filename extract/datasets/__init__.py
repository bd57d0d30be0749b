"""Which videos there are: data sets by name, folders, CSV lists, published splits, and the embedded `motion`."""
