"""The same in several processes: torchrun --nproc-per-node 2 several_processes.py."""

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torchvision.models import resnet18
from torchvision.transforms import v2

from augcond.torch import BatchSettings, MixedBatchSampler, RealDataset, RunDataset


def main() -> None:
    dist.init_process_group("gloo")  # "nccl" on GPUs; before the sampler, which then takes this process's share
    transform = v2.Compose([v2.RandomResizedCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    real = RealDataset("runs/photos", transform=transform)
    synthetic = RunDataset("runs/photos", recipe="mixup", transform=transform)
    half = BatchSettings(size=32, share=0.5, drawing="exact")  # 32 over all processes
    sampler = MixedBatchSampler(len(real), len(synthetic), half, steps=100)
    loader = DataLoader(real + synthetic, batch_sampler=sampler, num_workers=2)
    torch.manual_seed(0)
    model = DistributedDataParallel(resnet18(num_classes=len(real.classes)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(10):
        for images, labels in loader:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}, process {dist.get_rank()}: loss {loss.item():.3f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
