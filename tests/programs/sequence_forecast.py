"""Learns to continue sine waves with two LSTM cells and L-BFGS, in double precision; saves and resumes half-way."""
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


class Sequence(nn.Module):
    def __init__(self):
        super(Sequence, self).__init__()
        self.lstm1 = nn.LSTMCell(1, 8)
        self.lstm2 = nn.LSTMCell(8, 8)
        self.linear = nn.Linear(8, 1)

    def forward(self, input, future=0):
        outputs = []
        h_t = torch.zeros(input.size(0), 8, dtype=torch.double)
        c_t = torch.zeros(input.size(0), 8, dtype=torch.double)
        h_t2 = torch.zeros(input.size(0), 8, dtype=torch.double)
        c_t2 = torch.zeros(input.size(0), 8, dtype=torch.double)

        for input_t in input.split(1, dim=1):
            h_t, c_t = self.lstm1(input_t, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        for i in range(future):  # if we should predict the future
            h_t, c_t = self.lstm1(output, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        return torch.cat(outputs, dim=1)


start = np.array([[0.0], [1.1], [2.3], [4.0]])
data = np.sin(start + np.arange(16)[None, :] / 2.0)
input = torch.from_numpy(data[1:, :-1])
target = torch.from_numpy(data[1:, 1:])
test_input = torch.from_numpy(data[:1, :-1])
test_target = torch.from_numpy(data[:1, 1:])

seq = Sequence()
seq.double()
print(seq)
criterion = nn.MSELoss()
optimizer = optim.LBFGS(seq.parameters(), lr=0.8, max_iter=5)


def closure():
    optimizer.zero_grad()
    out = seq(input)
    loss = criterion(out, target)
    loss.backward()
    return loss


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'sequence.pt')
    for step in range(3):
        print('STEP', step, 'loss', round(optimizer.step(closure).item(), 5))
        if step == 1:
            torch.save({'model': seq.state_dict(), 'step': step}, path)
        with torch.no_grad():
            pred = seq(test_input, future=4)
            print('test loss', round(criterion(pred[:, :-4], test_target).item(), 5), pred.shape)

    checkpoint = torch.load(path)
    resumed = Sequence().double()
    print(resumed.load_state_dict(checkpoint['model']), checkpoint['step'])
    resumed.eval()
    print(resumed(test_input, future=2)[0, -2:])
