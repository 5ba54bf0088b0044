"""Packets that lie elsewhere: a broker, a registry, a bucket, the Hub; brought here, checked, and kept.

Wherever a packet's path is expected, :func:`local_packet` takes a path or a reference::

    ./secret.m2kp    m2kt://sha256:...    oci://host/name:tag    hf://owner/name    s3://bucket/secret.m2kp

:class:`BrokerClient` speaks to a broker (``M2KT_BROKER_URL``, ``M2KT_API_KEY``). Loads no torch.
"""

from m2kt.remote._client import BrokerClient as BrokerClient
from m2kt.remote._references import is_reference as is_reference
from m2kt.remote._references import local_packet as local_packet
