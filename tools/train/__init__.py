"""The recipe that trains a small UniRestorer from free photos, on a CPU or a GPU.

Run from tools/: python3 -m train --help. Everything that can be chosen is in nano.json; docs/nano.md is the model card.

    photos      fetch the photos that train and watch the training
    estimator   train the degradation encoder
    tree        cluster its features and lay out the pool of experts
    expert      train one expert of the pool
    router      train the gates over the frozen experts
    export      write a model folder and golden cases for the runtime
    evaluate    measure PSNR on the reserved photos
    run         all of these in order, two at a time; start, status, pause, resume and stop do it in the background
    smoke       the whole recipe for a few steps on generated pictures

Each step is seeded, saves its state as it goes and continues where it stopped.
"""
