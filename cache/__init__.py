"""The store between the two stages: specs, records, Zarr and HDF5."""
