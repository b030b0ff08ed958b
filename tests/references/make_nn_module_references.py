"""Store PyTorch's lines of `nn_module_api.py`."""

import json
import warnings

import torch
import torch.nn.utils.prune
from nn_module_api import STORED, module_lines, utils_lines

warnings.simplefilter("ignore")
STORED.write_text(json.dumps({"module": module_lines(torch), "utils": utils_lines(torch)}, indent=0))
