"""Train on your own images and on synthetic ones that are made in memory; no run folder."""

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FakeData
from torchvision.transforms.v2.functional import pil_to_tensor

import augcond
from augcond.torch import BatchSettings, MixedBatchSampler

images, labels = zip(*FakeData(30, (3, 32, 32), 2), strict=True)  # your own: PIL images, and what they show
augmenter = augcond.Augmenter(generator={"steps": 10}, recipe="embed-mixup")
made = augmenter(images, labels, classes=["cat", "dog"], per_class=16)  # 32 images, with what each was made of
pictures = torch.stack([pil_to_tensor(image) for image in [*images, *(each.image for each in made)]]) / 255
numbers = torch.tensor([*labels, *(each.label for each in made)])
sampler = MixedBatchSampler(len(images), len(made), BatchSettings(size=8, share=0.5, drawing="exact"), steps=50)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
for batch, targets in DataLoader(TensorDataset(pictures, numbers), batch_sampler=sampler):
    loss = cross_entropy(model(batch), targets)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
