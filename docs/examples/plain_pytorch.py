"""Train on the real and synthetic images of a run with plain PyTorch."""

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.models import resnet18
from torchvision.transforms import v2

from augcond.torch import BatchSettings, MixedBatchSampler, RealDataset, RunDataset


def main() -> None:
    transform = v2.Compose([v2.RandomResizedCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    real = RealDataset("runs/photos", transform=transform)
    synthetic = RunDataset("runs/photos", recipe="mixup", transform=transform)
    half = BatchSettings(size=32, share=0.5, drawing="exact")
    sampler = MixedBatchSampler(len(real), len(synthetic), half, steps=100)
    loader = DataLoader(real + synthetic, batch_sampler=sampler, num_workers=2)
    model = resnet18(num_classes=len(real.classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(10):
        for images, labels in loader:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
