"""Placeholders: error images, which lie under many addresses that have nothing to do with another.

reads   pairs that arrived, with their fingerprints as far as these are known
writes  the pairs that show an error image, each with the first pair that shows the same

The same bytes, the same pixels, or the same PDQ hash, under many addresses and with as many
captions: one picture in twenty shops has one caption, an error image has that of every picture that
it stands for.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.settings import DedupSettings


def placeholders(pairs: DataFrame, settings: DedupSettings) -> DataFrame:
    """`pair_id` and `rival` of every pair that shows an error image.

    `pairs` has pair_id, url, caption, and sha256, pixels_sha256, pdq and quality, which may be
    null. The rival is the first by name of the pairs that show the same, itself among them.
    """
    is_sharp = F.col("quality") >= settings.min_quality
    looks = F.array(
        F.concat(F.lit("bytes "), "sha256"),
        F.concat(F.lit("pixels "), "pixels_sha256"),
        F.concat(F.lit("pdq "), F.when(is_sharp, F.hex("pdq"))),
    )
    seen = pairs.select("pair_id", "url", "caption", F.explode(looks).alias("look"))
    seen = seen.where(F.col("look").isNotNull())
    # Hardly a look is frequent, and to count what is distinct is dear.
    frequent = seen.groupBy("look").count().where(F.col("count") >= settings.placeholder_urls)
    seen = seen.join(frequent.select("look"), on="look", how="inner")
    looked = seen.groupBy("look").agg(
        F.countDistinct("url").alias("urls"),
        F.countDistinct("caption").alias("captions"),
        F.min("pair_id").alias("rival"),
    )
    is_unrelated = F.least("urls", "captions") >= settings.placeholder_urls
    looked = looked.where(is_unrelated).select("look", "rival")
    errors = seen.join(looked, on="look", how="inner")
    # Pairs of equal bytes have equal pixels and equal hashes: the first of the widest is the first.
    return errors.groupBy("pair_id").agg(F.min("rival").alias("rival"))
