"""Train on your own images and on synthetic ones that are made in memory; no run folder."""

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import augcond
from augcond.torch import BatchSettings, MixedBatchSampler

labels = [0, 1] * 15  # your own: PIL images, and what they show
images = [Image.effect_noise((32, 32), 30 + 60 * label).convert("RGB") for label in labels]
augmenter = augcond.Augmenter(generator={"steps": 10}, recipe="embed-mixup")
made = augmenter(images, labels, classes=["cat", "dog"], per_class=16)  # 32 images, with what each was made of
pixels = np.stack([np.asarray(image, np.float32) / 255 for image in [*images, *(each.image for each in made)]])
pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2)
numbers = torch.tensor([*labels, *(each.label for each in made)])
sampler = MixedBatchSampler(len(images), len(made), BatchSettings(size=8, share=0.5, drawing="exact"), steps=50)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
for batch, targets in DataLoader(TensorDataset(pictures, numbers), batch_sampler=sampler):
    loss = cross_entropy(model(batch), targets)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
