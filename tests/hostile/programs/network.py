"""Attempts to reach anything beyond the box."""

from __future__ import annotations

from tests.support.hostile.case import Probe
from tests.support.sandbox.runtimes import GVISOR

_SENTRY = "the sentry implements it within the box; the host's network is not behind it"

_CONNECT = "socket.create_connection(({address}, {port}), 1)"

PROBES = (
    Probe("internet", "an address of the internet", _CONNECT.format(address="'1.1.1.1'", port=53)),
    Probe(
        "internet-v6",
        "the same over IPv6",
        "socket.create_connection(('2606:4700:4700::1111', 53), 1)",
    ),
    Probe(
        "metadata-service",
        "the cloud's metadata service, which hands out tokens",
        _CONNECT.format(address="'169.254.169.254'", port=80),
    ),
    Probe(
        "platform-address",
        "Azure's own address for its guests",
        _CONNECT.format(address="'168.63.129.16'", port=80),
    ),
    Probe(
        "host-loopback",
        "a service on the host's loopback",
        _CONNECT.format(address="'127.0.0.1'", port="decoys['tcp']"),
    ),
    Probe(
        "host-loopback-v6",
        "the same over IPv6",
        _CONNECT.format(address="'::ffff:127.0.0.1'", port="decoys['tcp']"),
    ),
    Probe(
        "host-address",
        "a service on the host's other address",
        _CONNECT.format(address="decoys['address']", port="decoys['tcp']"),
    ),
    Probe(
        "host-datagram",
        "a datagram to the host",
        "sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "sender.sendto(b'x', (decoys['address'], decoys['udp']))\n"
        "raise Refused  # whether it arrived, the listener says",
    ),
    Probe(
        "gateway",
        "the engine's bridge",
        _CONNECT.format(address="'172.17.0.1'", port="decoys['tcp']"),
    ),
    Probe("names", "a name server", "socket.getaddrinfo('example.com', 80)"),
    Probe(
        "multicast",
        "neighbours by multicast",
        "sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)\n"
        "sender.sendto(b'x', ('224.0.0.251', 5353))",
    ),
    Probe(
        "link-local",
        "neighbours by IPv6's link-local addresses",
        "sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
        "sender.sendto(b'x', ('ff02::1', 9, 0, 2))",
    ),
    Probe(
        "broadcast",
        "everybody at once",
        "sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
        "sender.sendto(b'x', ('255.255.255.255', 9))",
    ),
    Probe(
        "interfaces",
        "an interface besides the loopback",
        "names = [line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line]\n"
        "reached(set(names) - {'lo'})",
    ),
    Probe(
        "connections-of-others",
        "the list of the host's connections",
        "port = f\":{decoys['tcp']:04X}\"\nreached(port in open('/proc/net/tcp').read())",
    ),
    Probe(
        "abstract-socket",
        "an abstract UNIX socket of the host",
        "socket.socket(socket.AF_UNIX).connect('\\0' + decoys['abstract'])",
    ),
    Probe(
        "named-socket",
        "a UNIX socket of the host that everybody may write to",
        "socket.socket(socket.AF_UNIX).connect(decoys['folder'] + '/socket')",
    ),
    Probe(
        "engine-socket",
        "the engine's socket",
        "socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')",
    ),
    *(
        Probe(
            f"{name}-socket",
            f"a socket of the family {name}",
            f"socket.socket({family}, {kind}, {protocol})",
            open_on={GVISOR: _SENTRY} if name in ("netlink", "uevent") else {},
        )
        for name, family, kind, protocol in (
            ("netlink", 16, "socket.SOCK_RAW", 0),
            ("audit", 16, "socket.SOCK_RAW", 9),
            ("uevent", 16, "socket.SOCK_RAW", 15),
            ("netfilter", 16, "socket.SOCK_RAW", 12),
            ("packet", 17, "socket.SOCK_RAW", 768),
            ("alg", 38, "socket.SOCK_SEQPACKET", 0),
            ("vsock", 40, "socket.SOCK_STREAM", 0),
            ("xdp", 44, "socket.SOCK_RAW", 0),
            ("bluetooth", 31, "socket.SOCK_RAW", 1),
            ("can", 29, "socket.SOCK_RAW", 1),
            ("tipc", 30, "socket.SOCK_SEQPACKET", 0),
            ("rds", 21, "socket.SOCK_SEQPACKET", 0),
            ("kcm", 41, "socket.SOCK_DGRAM", 0),
            ("smc", 43, "socket.SOCK_STREAM", 0),
        )
    ),
    Probe(
        "raw-ip",
        "raw IP packets",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
    ),
    Probe(
        "raw-ip-v6",
        "raw IPv6 packets",
        "socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)",
    ),
    Probe(
        "sctp",
        "a protocol whose kernel module would be loaded",
        "socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, 132)",
    ),
    Probe(
        "interface-up",
        "configure an interface",
        "import fcntl\nfcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh22x', b'lo', 0))",
    ),
    Probe(
        "tun",
        "make a tunnel",
        "os.open('/dev/net/tun', os.O_RDWR)",
        open_on={GVISOR: _SENTRY},
    ),
    Probe("vsock-device", "talk to the hypervisor", "os.open('/dev/vsock', os.O_RDWR)"),
    Probe(
        "host-network",
        "join the host's network",
        "syscall(308, os.open('/proc/1/ns/net', 0), 0)",
        machine="x86_64",
    ),
)
