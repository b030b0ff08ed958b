"""`torch.utils.data._utils.collate`."""

import re

from ..collate import default_collate, default_convert

# The types of NumPy's arrays of text and of objects.
np_str_obj_array_pattern = re.compile(r"[SaUO]")

__all__ = ["default_collate", "default_convert", "np_str_obj_array_pattern"]
