"""Several packets of one skill become one, and one of them can be taken out again, bit for bit.

Rules are tables, so contradictions are visible row by row: lineages vote on them, not packets. Loads no torch.

    merged = merge_packets([a, b, c], Options(resolve="vote"))
    merged.manifest.merged.conflicts                     # which rows, who is on which side, how sure
    without(merged, b.digest)                            # what merging a and c gives
"""

from m2kt.merging._chain import Chain as Chain
from m2kt.merging._chain import chain_packets as chain_packets
from m2kt.merging._joint import LOW_CONFIDENCE as LOW_CONFIDENCE
from m2kt.merging._joint import Options as Options
from m2kt.merging._lineage import lineages as lineages
from m2kt.merging._lineage import prototype_cosine as prototype_cosine
from m2kt.merging._merge import merge_packets as merge_packets
from m2kt.merging._merge import ordered_sources as ordered_sources
from m2kt.merging._merge import without as without
from m2kt.merging._votes import METHODS as METHODS
