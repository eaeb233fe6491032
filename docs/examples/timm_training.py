"""Train a timm network with timm's transforms and optimiser on the real and synthetic images of a run."""

import timm
import timm.data
import timm.optim
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from augcond.torch import BatchSettings, MixedBatchSampler, RealDataset, RunDataset


def main() -> None:
    transform = timm.data.create_transform(224, is_training=True, auto_augment="rand-m9-mstd0.5")
    real = RealDataset("runs/photos", transform=transform)
    synthetic = RunDataset("runs/photos", recipe="mixup", transform=transform)
    each = BatchSettings(size=32, share=0.5, drawing="bernoulli")  # each image is synthetic with probability 1/2
    sampler = MixedBatchSampler(len(real), len(synthetic), each, steps=100, balance=real.labels)
    loader = DataLoader(real + synthetic, batch_sampler=sampler, num_workers=2)
    model = timm.create_model("resnet18", num_classes=len(real.classes))
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    for epoch in range(10):
        for images, labels in loader:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
