"""`torch.utils.tensorboard`: not here; the error names a package that has it."""

raise ModuleNotFoundError(
    "torch.utils.tensorboard is not in vitrify yet; the package tensorboardX has the same SummaryWriter: pip install "
    "tensorboardX, then from tensorboardX import SummaryWriter",
    name="torch.utils.tensorboard",
)
