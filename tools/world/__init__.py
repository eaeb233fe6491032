"""Scripts that build the built-in world from Fashion-MNIST: data, encoders, autoencoder, UNet, export.

Each script is one command, run from the root of the repository: `python -m tools.world.<name> --help`.
`docs/world.md` tells the order and what every stage cost.
"""
