import torch
import numpy as np
from torch.autograd import Variable
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

x = torch.Tensor(2, 3, 4)  # torch.Tensor(shape) 创建出一个未初始化的Tensor
print(x.size())

a = torch.rand(2, 3, 4)
b = torch.rand(2, 3, 4)
_ = torch.add(a, b, out=x)  # 使用Tensor()方法创建出来的Tensor用来接收计算结果
print(x)

a.add_(b)  # 所有带 _ 的operation,都会更改调用对象的值
print(a)

print(torch.cuda.is_available())

# 自动求导
x = torch.rand(5)
x = Variable(x, requires_grad=True)
y = x * 2
grads = torch.FloatTensor([1, 2, 3, 4, 5])
y.backward(grads)  # 如果y是scalar的话,那么直接y.backward()
print(x.grad)


class Net(nn.Module):  # 需要继承这个类
    def __init__(self):
        super(Net, self).__init__()
        # 建立了两个卷积层,self.conv1, self.conv2,注意,这些层都是不包含激活函数的
        self.conv1 = nn.Conv2d(1, 6, 5)  # 1 input image channel, 6 output channels, 5x5 square convolution kernel
        self.conv2 = nn.Conv2d(6, 16, 5)
        # 三个全连接层
        self.fc1 = nn.Linear(16 * 5 * 5, 120)  # an affine operation: y = Wx + b
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):  # 注意,2D卷积层的输入data维数是 batchsize*channel*height*width
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))  # Max pooling over a (2, 2) window
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # If the size is a square you can only specify a single number
        x = x.view(-1, self.num_flat_features(x))
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x

    def num_flat_features(self, x):
        size = x.size()[1:]  # all dimensions except the batch dimension
        num_features = 1
        for s in size:
            num_features *= s
        return num_features


net = Net()
print(net)
print(len(list(net.parameters())))

input = Variable(torch.randn(1, 1, 32, 32))
out = net(input)
print(out)
out.backward(torch.randn(1, 10))

learning_rate = 0.01
for f in net.parameters():
    f.data.sub_(f.grad.data * learning_rate)  # 有了optimizer就不用写这些了

# create your optimizer
criterion = nn.MSELoss()
target = torch.randn(1, 10)
optimizer = optim.SGD(net.parameters(), lr=0.01)

# in your training loop:
for i in range(5):
    optimizer.zero_grad()  # zero the gradient buffers,如果不归0的话,gradients会累加
    output = net(input)  # 这里就体现出来动态建图了
    loss = criterion(output, target)
    loss.backward()  # 得到grad,i.e.给Variable.grad赋值
    optimizer.step()  # Does the update,i.e. Variable.data -= learning_rate*Variable.grad
    print(i, loss.item())

# numpy to Tensor
a = np.ones(5)
b = torch.from_numpy(a)
np.add(a, 1, out=a)
print(a)  # 如果a 变的话, b也会跟着变,说明b只是保存了一个地址而已,并没有深拷贝
print(b)

a = np.ones(5)
b = torch.from_numpy(a)  # ndarray --> Tensor
a_ = b.numpy()  # Tensor --> ndarray
np.add(a, 1, out=a)
print(a_)

# 将Tensor放到Cuda上
if torch.cuda.is_available():
    x = x.cuda()
    y = y.cuda()
    x + y

# torch.Tensor(1,2,3) 与 torch.Tensor([1,2,3]) 的区别
print(torch.Tensor(1, 2, 3).shape)  # 生成一个 shape 为 [1,2,3] 的 tensor
print(torch.Tensor([1, 2, 3]))  # 生成一个值为 [1,2,3] 的 tensor
