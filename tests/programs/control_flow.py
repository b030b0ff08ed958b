import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):

    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 1, 5, padding=2)
        self.conv2 = nn.Conv2d(1, 4, 5)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        # 在你的创建模型的过程中, 你可以疯狂地使用任意的python代码创建你的模型结构
        if x.gt(0).sum() > x.numel() / 2:
            x = x * 2
        # 你甚至可以做一个循环来重复使用相同的模块
        while x.norm(2) < 10:
            x = self.conv1(x) * 3
        return self.conv2(x)


net = Net()
print(net)
for scale in (1.0, 0.1, 3.0, 1.0):
    out = net(torch.randn(2, 1, 8, 8) * scale)
    net.zero_grad()
    out.sum().backward()
    print(out.mean().item(), net.conv1.weight.grad.norm().item())
