import math
import torch
from torch.nn.parameter import Parameter
from torch.nn import functional as F
from torch.nn import init
from torch.nn import Module
from torch.autograd import Variable


class Linear(Module):
    __constants__ = ['bias']

    def __init__(self, in_features, out_features, bias=True):
        super(Linear, self).__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(torch.Tensor(out_features, in_features))
        if bias:
            self.bias = Parameter(torch.Tensor(out_features))
        else:
            self.register_parameter('bias', None)
        self.reset_parameters()

    def reset_parameters(self):
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(fan_in)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input):
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self):
        return 'in_features={}, out_features={}, bias={}'.format(
            self.in_features, self.out_features, self.bias is not None
        )


layer = Linear(4, 2)
print(layer)
print(layer.weight, layer.bias)
print(layer(torch.randn(3, 4)))
print(Linear(4, 2, bias=False))

a = torch.randn(10, 5)
b = torch.randn(10, 5)
x = Variable(a, requires_grad=True)
y = Variable(b, requires_grad=True)
z = x + y
try:
    z.backward()
except RuntimeError as error:
    print(error)
z = z.sum()
z.backward(retain_graph=True)
print(x.grad)  # x的梯度 10x1 的全1 tensor
print(z.grad_fn)  # <SumBackward0 object at 0x7f809e33fcf8>
z.backward()
try:
    z.backward()
except RuntimeError as error:
    print(error)

w = Variable(torch.ones(3), requires_grad=True)
(w * w).sum().backward()
w.data = w.data - 0.1 * w.grad.data  # lr 是学习率
print(w)

x = torch.zeros(1, requires_grad=True)
for epsilon in (0, 1e-8):
    x.grad = None
    (0 * torch.sqrt(x + epsilon)).backward()
    print(epsilon, x.grad)
