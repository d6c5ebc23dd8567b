"""Evaluate: what a checkpoint has learned. Knows torch, never Spark.

prompts      the templates and class names of CLIP's sets
classes      labels -> classes and what prompts call them
annotations  classes and captions that stand beside the images
encode       images -> features and embeddings
zeroshot     embeddings and prompts -> answers
labelled     the images of a split, and the classes of each
probe        features -> answers of a linear classifier (logistic: its solver)
probed       those answers, chosen and judged by a set's own metric
retrieval    embeddings of images and captions -> recalls
metrics      answers -> numbers that say how sure they are
overlap      the same on all, clean and overlapping images
robustness   accuracies on shifted images, beside those of other models
score        one evaluation set -> all of it
scores       all of them
"""
