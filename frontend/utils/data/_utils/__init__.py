"""`torch.utils.data._utils`: where libraries import the DataLoader's parts from."""

from . import collate

__all__ = ["collate"]
