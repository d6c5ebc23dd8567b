"""Evaluate: what a checkpoint has learned. Knows torch, never Spark.

encode      images -> features and embeddings
zeroshot    embeddings and prompts -> predictions
probe       features -> predictions of a linear classifier
accuracy    predictions -> numbers that say how sure they are
score       one evaluation set -> all of it
"""
