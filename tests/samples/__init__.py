"""The sample table: what every public name is compared on with PyTorch. See `table.py`."""
