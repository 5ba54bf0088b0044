"""The thin index over a store: rows that find packets. It holds nothing that the store does not."""

from .apply import ORDER as ORDER
from .apply import Loaded as Loaded
from .apply import apply as apply
from .database import Database as Database
from .entries import predicate_of as predicate_of
from .models import Base as Base
from .models import KeyRow as KeyRow
from .models import LabelRow as LabelRow
from .models import PacketRow as PacketRow
from .models import RecordRow as RecordRow
from .models import SignerRow as SignerRow
from .models import StatementRow as StatementRow
from .models import VectorsRow as VectorsRow
from .queries import Filters as Filters
from .queries import Near as Near
from .queries import count_packets as count_packets
from .queries import descended as descended
from .queries import find_packets as find_packets
from .queries import labels_like as labels_like
from .queries import nearest as nearest
from .queries import receipts_of as receipts_of
from .queries import verdict_counts as verdict_counts
