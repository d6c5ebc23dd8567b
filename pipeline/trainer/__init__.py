"""The trainer: what a pair teaches. Reads shards, writes checkpoints; knows torch, never Spark.

samples      shards -> batches, a pure function of seed and step
order        which sample stands where in an epoch
pixels       an encoded image -> the square of pixels that a model sees
tokenizer    captions -> tokens
model        CLIP, and the nine models of the paper by name
loss         what is made small
loop         the training loop
checkpoint   what is kept, so that a run can go on
"""
