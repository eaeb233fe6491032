"""Classifiers trained on real and synthetic images. Importing this package imports no PyTorch.

What is trained on:
    arms            which arms a run has, and with which seeds each is trained
    experiment      what all arms share: split, real and synthetic images, checked
    guards          the checks: no image is trained on that must not be
    arm_images      the images of one arm, each set read once for all arms
    image_sets      labelled images as tensors, in memory or decoded when asked for
    synthetic       which generated images a run holds, without their pixels
    augmentation    crops, flips and transforms of a batch
    batches         which images make up a step, as the network gets them

What is trained:
    networks        classifiers by name: timm's, and a small one
    probes          frozen encoders and the linear layer on their features
    models          the two as one: what an arm trains, and how it judges images
    losses          what is minimised, by name
    devices         processes, devices, mixed precision

How it is trained:
    trainer         every arm with every seed; models that are there are kept
    loop            one training, step by step, from its checkpoint where there is one
    cards           models and checkpoints on disk
"""
