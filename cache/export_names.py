"""The formats of an export: name -> its writer in export_formats.py, which is loaded on use."""

FORMATS = {"npz": "NpzWriter", "webdataset": "TarWriter", "safetensors": "SafetensorsWriter"}
