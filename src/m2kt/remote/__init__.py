"""Packets of a broker, a registry, a bucket or the Hub: fetched, verified and cached. Loads no torch.

Wherever a packet is expected, :func:`open_packet` takes a path or a reference::

    ./secret.m2kp    m2kt://sha256:...    oci://host/name:tag    hf://owner/name    s3://bucket/secret.m2kp

:func:`publish`, :func:`pull`, :func:`search`, :func:`yank` and :func:`lineage` use the broker at ``M2KT_BROKER_URL``
with the key in ``M2KT_API_KEY``, by :class:`BrokerClient`.
"""

from m2kt.remote._answers import LineageAnswer as LineageAnswer
from m2kt.remote._answers import NearAnswer as NearAnswer
from m2kt.remote._answers import PacketAnswer as PacketAnswer
from m2kt.remote._answers import RecordAnswer as RecordAnswer
from m2kt.remote._answers import SearchAnswer as SearchAnswer
from m2kt.remote._bucket import Bucket as Bucket
from m2kt.remote._cache import offline as offline
from m2kt.remote._client import BrokerClient as BrokerClient
from m2kt.remote._client import broker_url as broker_url
from m2kt.remote._oci import PACKET_ARTEFACT as PACKET_ARTEFACT
from m2kt.remote._oci import RECORD_ARTEFACT as RECORD_ARTEFACT
from m2kt.remote._oci import Repository as Repository
from m2kt.remote._references import is_reference as is_reference
from m2kt.remote._references import local_packet as local_packet
from m2kt.remote._references import open_packet as open_packet
from m2kt.remote._references import refuse_revoked as refuse_revoked
from m2kt.remote._verbs import Pulled as Pulled
from m2kt.remote._verbs import lineage as lineage
from m2kt.remote._verbs import publish as publish
from m2kt.remote._verbs import pull as pull
from m2kt.remote._verbs import search as search
from m2kt.remote._verbs import yank as yank
