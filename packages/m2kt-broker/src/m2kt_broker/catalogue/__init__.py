"""The catalogue: a database that indexes a store. It holds nothing that the store lacks."""

from ._apply import RECORD_ORDER as RECORD_ORDER
from ._apply import apply as apply
from ._database import Database as Database
from ._entries import predicate_of as predicate_of
from ._models import Base as Base
from ._models import KeyRow as KeyRow
from ._models import LabelRow as LabelRow
from ._models import PacketRow as PacketRow
from ._models import RecordRow as RecordRow
from ._models import SignerRow as SignerRow
from ._models import StatementRow as StatementRow
from ._models import VectorsRow as VectorsRow
from ._queries import Filters as Filters
from ._queries import NearConcept as NearConcept
from ._queries import count_packets as count_packets
from ._queries import find_packets as find_packets
from ._queries import matching_labels as matching_labels
from ._queries import nearest_concepts as nearest_concepts
from ._queries import packets_in_lineage as packets_in_lineage
from ._queries import receipts_of as receipts_of
from ._queries import verdict_counts as verdict_counts
