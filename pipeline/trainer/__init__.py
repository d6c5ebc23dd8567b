"""The trainer: what a pair teaches. Reads shards, writes checkpoints; knows torch, never Spark.

stores       where shards lie: a folder, or an address and a cache (remote, cache, fetching,
             shard_names)
index        all shards of a store, numbered, and where each sample lies (listed, found, walked,
             headers)
order        which sample stands where in an epoch
reading      one sample, by its number
pixels       an encoded image -> the square of pixels that a model sees
filling      the rows of a batch (worker: in a process of its own, ring: into shared memory)
workers      those processes, as the trainer sees them
samples      shards -> batches, a pure function of seed and step
feeding      batches -> the device
architectures  the sizes of the nine models of the paper, by name
model        CLIP (transformer, vit, resnet: its encoders)
recompute    a block whose inside is computed again and not kept
text_groups  texts of like length together
flops        what a pair costs
loss         what is made small
micro_batches  the gradient of a whole batch, a part of it in memory at a time
objectives   what CLIP's loss was weighed against, for small comparisons
parallel     the processes that train together
sharding     a model spread over them, and its whole state
optimizer    AdamW and its learning rate
starting     the model and its optimizer, fresh or as they were left
step         one step, and what it came to, seen without waiting for the device
failures     memory that ends and ranks that are lost, in plain words
loop         the training loop
checkpoint   what is kept, so that a run can go on (tensor_files, rng; saving: meanwhile)
instruments  what a run tells of itself (sinks: and where)
stopping     a request to end between two steps
"""
