"""Tries: what the rows of images say of pairs that were asked for in one round or several.

reads   images, or pairs that are to be asked for
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.download.reasons import MAY_HEAL
from pipeline.schemas import FAILED


def arrived(images: DataFrame) -> DataFrame:
    """The row of each pair that has an image."""
    return images.where(F.col("status") == "success")


def failed(images: DataFrame) -> DataFrame:
    """Pairs whose last try failed for a reason that may pass."""
    tries = images.where(F.col("reason").isin(sorted(MAY_HEAL))).select(*FAILED.names)
    later = images.where(F.col("round") > 1)
    later = later.select(F.col("pair_id").alias("name"), F.col("round").alias("later"))
    was_tried_again = (F.col("pair_id") == F.col("name")) & (F.col("round") < F.col("later"))
    return tries.join(later, on=was_tried_again, how="left_anti")


def placed(pairs: DataFrame, number: int, first_shard: int, tasks: int) -> DataFrame:
    """Pairs of round `number` with the task of their download, of as many from `first_shard` on."""
    task = F.pmod(F.col("position"), F.lit(tasks)) + F.lit(first_shard)
    return pairs.withColumn("round", F.lit(number)).withColumn("raw_shard", task.cast("int"))
