"""Store PyTorch's lines of `nn_module_api.py`."""

import json
import warnings

import torch
import torch.nn.utils.prune
from nn_module_api import STORED, module_lines, transformer_lines, utils_lines

warnings.simplefilter("ignore")
lines = {"module": module_lines(torch), "utils": utils_lines(torch), "transformer": transformer_lines(torch)}
STORED.write_text(json.dumps(lines, indent=0))
