"""Packets that lie elsewhere: a broker, a registry, a bucket, the Hub; brought here, checked, and kept.

Wherever a packet is expected, :func:`open_packet` takes a path or a reference::

    ./secret.m2kp    m2kt://sha256:...    oci://host/name:tag    hf://owner/name    s3://bucket/secret.m2kp

:class:`BrokerClient` speaks to a broker (``M2KT_BROKER_URL``, ``M2KT_API_KEY``). Loads no torch.
"""

from m2kt.remote._bucket import Bucket as Bucket
from m2kt.remote._client import BrokerClient as BrokerClient
from m2kt.remote._oci import PACKET_ARTEFACT as PACKET_ARTEFACT
from m2kt.remote._oci import RECORD_ARTEFACT as RECORD_ARTEFACT
from m2kt.remote._oci import Repository as Repository
from m2kt.remote._references import is_reference as is_reference
from m2kt.remote._references import local_packet as local_packet
from m2kt.remote._references import open_packet as open_packet
from m2kt.remote._revoked import refuse_revoked as refuse_revoked
