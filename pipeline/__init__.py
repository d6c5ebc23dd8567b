"""What happens to a pair, from a raw source to a trained model.

stage        reads                     writes
ingest       WAT files, url tables     candidates
match        candidates, queries       matched
balance      matched                   drawn       (each cap with headroom, before the download)
download     drawn, matched            images, reached  (in rounds, until the caps are met)
fingerprint  images, evaluation sets   fingerprints
dedup        images, fingerprints      overlaps, deduped, dropped
balance      images, deduped, reached  balanced    (each cap exactly, among what arrived)
shard        balanced                  shards
audit        overlaps, images          audit
vocabulary   shards                    vocabulary
trainer      shards, vocabulary        checkpoints
evaluate     checkpoints               scores

Stages never import one another; tables are the only thing that passes between them.
"""
