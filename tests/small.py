"""What makes a training of the demo's world small enough for a test."""

SMALL = ["train.epochs=1.0", "train.batch_size=32", "train.warmup_steps=2", "balance.seed=7"]
